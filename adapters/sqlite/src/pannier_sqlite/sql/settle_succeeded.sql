UPDATE pannier_jobs
SET
    status = 'succeeded', result = ?, result_encoding = ?, progress = NULL, progress_encoding = NULL, lapses = 0,
    finished_at = ?
WHERE tracking_id = ? AND fence = ? AND status = 'running'
