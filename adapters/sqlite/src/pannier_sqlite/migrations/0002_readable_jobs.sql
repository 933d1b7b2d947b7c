-- For people at a shell: the jobs with times that can be read. No code depends on it.
CREATE VIEW pannier_readable_jobs AS
WITH parted AS (
    SELECT
        *,
        (execute_after % 1000000 + 1000000) % 1000000 AS execute_micros,
        (expire_on % 1000000 + 1000000) % 1000000 AS expire_micros,
        (created_at % 1000000 + 1000000) % 1000000 AS created_micros,
        (dequeue_after % 1000000 + 1000000) % 1000000 AS dequeue_micros,
        (finished_at % 1000000 + 1000000) % 1000000 AS finished_micros
    FROM pannier_jobs
)
SELECT
    tracking_id,
    queue_id,
    status,
    priority,
    datetime((execute_after - execute_micros) / 1000000, 'unixepoch') || format('.%06d', execute_micros)
        AS execute_after,
    datetime((expire_on - expire_micros) / 1000000, 'unixepoch') || format('.%06d', expire_micros) AS expire_on,
    datetime((created_at - created_micros) / 1000000, 'unixepoch') || format('.%06d', created_micros) AS created_at,
    datetime((dequeue_after - dequeue_micros) / 1000000, 'unixepoch') || format('.%06d', dequeue_micros)
        AS dequeue_after,
    datetime((finished_at - finished_micros) / 1000000, 'unixepoch') || format('.%06d', finished_micros)
        AS finished_at,
    attempt,
    lapses,
    fence,
    worker_id,
    idempotency_key,
    command,
    metadata,
    progress,
    result,
    errors
FROM parted;
