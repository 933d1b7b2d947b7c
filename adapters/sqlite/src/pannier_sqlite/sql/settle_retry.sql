UPDATE pannier_jobs
SET status = 'pending', attempt = max(attempt - lapses, 0), lapses = 0, dequeue_after = ?, worker_id = NULL, errors = ?
WHERE seq = ?
