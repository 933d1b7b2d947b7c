UPDATE pannier_jobs
SET status = 'pending', attempt = attempt - lapses, lapses = 0, dequeue_after = ?, worker_id = NULL, errors = ?
WHERE seq = ?
