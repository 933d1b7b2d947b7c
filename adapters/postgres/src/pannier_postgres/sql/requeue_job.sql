-- $1: the tracking id, $2: now, $3: the new expire_on.
WITH requeued AS (
    UPDATE {schema}.jobs
    SET
        status = 'pending',
        execute_after = $2,
        dequeue_after = $2,
        expire_on = $3,
        attempt = 0,
        lapses = 0,
        fence = fence + 1,
        worker_id = NULL,
        progress = NULL,
        progress_bytes = NULL,
        progress_encoding = NULL,
        finished_at = NULL
    WHERE tracking_id = $1 AND status IN ('failed', 'cancelled', 'expired')
    RETURNING queue_id
)
SELECT CASE WHEN {channel} IS NOT NULL THEN pg_notify({channel}, 'queued::' || queue_id) END AS told
FROM requeued
