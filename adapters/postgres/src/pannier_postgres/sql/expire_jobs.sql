-- $1: queues, $2: now, $3: how many at most. Answers how many were marked.
WITH late AS MATERIALIZED (
    SELECT tracking_id
    FROM (
        SELECT job.tracking_id
        FROM unnest($1::text[]) AS asked (queue_id)
        CROSS JOIN LATERAL (
            SELECT tracking_id FROM {schema}.jobs
            WHERE status = 'pending' AND jobs.queue_id = asked.queue_id AND expire_on <= $2
            ORDER BY expire_on
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS job
        UNION ALL
        SELECT job.tracking_id
        FROM unnest($1::text[]) AS asked (queue_id)
        CROSS JOIN LATERAL (
            SELECT tracking_id FROM {schema}.jobs
            WHERE status = 'running' AND jobs.queue_id = asked.queue_id AND dequeue_after <= $2 AND expire_on <= $2
            ORDER BY dequeue_after
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS job
    ) AS expirable
    LIMIT $3
),
expired AS (
    UPDATE {schema}.jobs SET status = 'expired', finished_at = $2
    WHERE tracking_id = ANY (ARRAY(SELECT tracking_id FROM late))
    RETURNING tracking_id, queue_id
),
told AS (
    SELECT pg_notify({channel}, 'finished::' || queue_id)
    FROM (SELECT DISTINCT queue_id FROM expired WHERE {channel} IS NOT NULL) AS changed
)
SELECT (SELECT count(*) FROM expired) AS marked, (SELECT count(*) FROM told) AS told
