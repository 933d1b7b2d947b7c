-- A skip scan: one look-up a queue.
WITH RECURSIVE queue (id) AS (
    SELECT min(queue_id) FROM pannier_jobs INDEXED BY pannier_jobs_finished WHERE finished_at IS NOT NULL
    UNION ALL
    SELECT (
        SELECT min(jobs.queue_id) FROM pannier_jobs AS jobs INDEXED BY pannier_jobs_finished
        WHERE jobs.finished_at IS NOT NULL AND jobs.queue_id > queue.id
    )
    FROM queue WHERE queue.id IS NOT NULL
)
SELECT id FROM queue WHERE id IS NOT NULL
