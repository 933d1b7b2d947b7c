UPDATE pannier_jobs SET progress = ?, progress_encoding = ? WHERE tracking_id = ? AND fence = ? AND status = 'running'
