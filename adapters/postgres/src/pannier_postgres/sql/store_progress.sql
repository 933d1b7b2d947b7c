-- $1: the tracking id, $2: the fence, $3 to $5: the progress.
UPDATE {schema}.jobs SET progress_encoding = $3, progress = $4::text::json, progress_bytes = $5
WHERE tracking_id = $1 AND fence = $2 AND status = 'running'
RETURNING true
