SELECT queue_id, status, count(*) FROM pannier_jobs
WHERE
    has_metadata(metadata, :metadata)
    AND (:queue_ids IS NULL OR hex(queue_id) IN (SELECT value FROM json_each(:queue_ids)))
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
GROUP BY queue_id, status
