UPDATE pannier_jobs
SET status = 'pending', attempt = attempt - 1, dequeue_after = execute_after, worker_id = NULL
WHERE tracking_id = ? AND fence = ? AND status = 'running'
