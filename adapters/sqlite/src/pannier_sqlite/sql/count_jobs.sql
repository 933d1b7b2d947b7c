-- Reads three indexes and no row.
SELECT queue_id, status, jobs FROM (
    SELECT queue_id, 'pending' AS status, count(*) AS jobs FROM pannier_jobs INDEXED BY pannier_jobs_waiting
    WHERE status = 'pending'
    GROUP BY queue_id
    UNION ALL
    SELECT queue_id, 'running', count(*) FROM pannier_jobs INDEXED BY pannier_jobs_leased
    WHERE status = 'running'
    GROUP BY queue_id
    UNION ALL
    SELECT queue_id, status, count(*) FROM pannier_jobs INDEXED BY pannier_jobs_finished
    WHERE finished_at IS NOT NULL
    GROUP BY queue_id, status
)
WHERE
    (:queue_ids IS NULL OR hex(queue_id) IN (SELECT value FROM json_each(:queue_ids)))
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
