-- $1: the tracking id, $2: now.
WITH cancelled AS (
    UPDATE {schema}.jobs SET status = 'cancelled', finished_at = $2
    WHERE tracking_id = $1 AND status IN ('pending', 'running')
    RETURNING tracking_id, queue_id
)
SELECT CASE WHEN {channel} IS NOT NULL THEN pg_notify({channel}, 'cancelled:' || tracking_id || ':' || queue_id) END AS told
FROM cancelled
