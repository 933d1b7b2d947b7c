-- As a BLOB, so that damaged text comes back as it is.
SELECT seq, expire_on, CAST(errors AS BLOB) FROM pannier_jobs
WHERE tracking_id = ? AND fence = ? AND status = 'running'
