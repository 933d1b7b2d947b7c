-- $1 to $11: the columns of one new job. Answers one row, or none where its tracking id or key was there.
-- What sql/store_jobs.sql does for many, without what it takes to do it for many.
INSERT INTO {schema}.jobs ({new}, dequeue_after)
VALUES (
    $1::uuid, $2::text, $3::smallint, $4::timestamptz, $5::timestamptz, $6::timestamptz, $7::text, $8::text::jsonb,
    $9::text, $10::text::json, $11::bytea, $4
)
ON CONFLICT DO NOTHING
RETURNING CASE WHEN {channel} IS NOT NULL THEN pg_notify({channel}, 'queued::' || queue_id) END AS told
