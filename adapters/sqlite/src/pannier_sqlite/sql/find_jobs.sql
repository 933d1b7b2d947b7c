-- Names are compared as hex, which is exact for any text: json_each of older SQLite cuts at an escaped NUL.
SELECT seq, {record} FROM pannier_jobs
WHERE
    seq > :after
    AND (:queue_ids IS NULL OR hex(queue_id) IN (SELECT value FROM json_each(:queue_ids)))
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND (:metadata IS NULL OR has_metadata(metadata, :metadata))
ORDER BY seq
LIMIT :limit
