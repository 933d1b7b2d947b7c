-- Stores new jobs that have no key, and answers nothing of use: the id of each stands, whoever stored it.
-- $1 and $2: the id and the JSON of each. $3 to $6: what they have in common.
-- $7 to $9: when each may start, expires and was made; one value of which all have it.
WITH stored AS (
    INSERT INTO {schema}.jobs (
        tracking_id, command, queue_id, priority, metadata, command_encoding, execute_after, dequeue_after, expire_on,
        created_at
    )
    SELECT
        tracking_id, command::json, $3::text, $4::smallint, $5::text::jsonb, $6::text,
        CASE WHEN cardinality($7) = 1 THEN $7[1] ELSE execute_after END,
        CASE WHEN cardinality($7) = 1 THEN $7[1] ELSE execute_after END,
        CASE WHEN cardinality($8) = 1 THEN $8[1] ELSE expire_on END,
        CASE WHEN cardinality($9) = 1 THEN $9[1] ELSE created_at END
    FROM unnest($1::uuid[], $2::text[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])
        AS given (tracking_id, command, execute_after, expire_on, created_at)
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT pg_notify({channel}, 'queued::' || $3::text)
WHERE {channel} IS NOT NULL AND EXISTS (SELECT FROM stored)
