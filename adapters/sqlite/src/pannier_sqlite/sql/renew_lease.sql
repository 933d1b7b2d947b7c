UPDATE pannier_jobs SET dequeue_after = ? WHERE tracking_id = ? AND fence = ? AND status = 'running'
