UPDATE pannier_jobs
SET
    status = 'pending',
    execute_after = :now,
    dequeue_after = :now,
    expire_on = :expire_on,
    attempt = 0,
    lapses = 0,
    fence = fence + 1,
    worker_id = NULL,
    progress = NULL,
    progress_encoding = NULL,
    result = NULL,
    result_encoding = NULL,
    finished_at = NULL
WHERE tracking_id = :tracking_id AND finished_at IS NOT NULL AND status <> 'succeeded'
