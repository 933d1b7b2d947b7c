-- What stands first in each line of a queue: NULL names the leases, a number the waiting jobs of that priority.
-- The priorities in use are found by a skip scan, one look-up each, however many jobs wait in each.
WITH RECURSIVE line (priority) AS (
    SELECT max(priority) FROM pannier_jobs INDEXED BY pannier_jobs_waiting
    WHERE queue_id = :queue_id AND status = 'pending'
    UNION ALL
    SELECT (
        SELECT max(jobs.priority) FROM pannier_jobs AS jobs INDEXED BY pannier_jobs_waiting
        WHERE jobs.queue_id = :queue_id AND jobs.status = 'pending' AND jobs.priority < line.priority
    )
    FROM line WHERE line.priority IS NOT NULL
)
SELECT NULL AS priority, min(dequeue_after) AS earliest FROM pannier_jobs INDEXED BY pannier_jobs_leased
WHERE queue_id = :queue_id AND status = 'running'
UNION ALL
SELECT
    line.priority,
    (
        SELECT min(jobs.dequeue_after) FROM pannier_jobs AS jobs INDEXED BY pannier_jobs_waiting
        WHERE jobs.queue_id = :queue_id AND jobs.status = 'pending' AND jobs.priority = line.priority
    )
FROM line WHERE line.priority IS NOT NULL
