-- $1 to $11: the columns of the new jobs.
-- Answers the positions, from 1, of the jobs that were not stored, because their tracking id or key was there.
WITH given AS (
    SELECT *
    FROM unnest(
        $1::uuid[], $2::text[], $3::smallint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::bytea[]
    ) AS given ({new})
),
stored AS (
    INSERT INTO {schema}.jobs ({new}, dequeue_after)
    SELECT
        tracking_id, queue_id, priority, execute_after, expire_on, created_at, idempotency_key, metadata::jsonb,
        command_encoding, command::json, command_bytes, execute_after
    FROM given
    ON CONFLICT DO NOTHING
    RETURNING tracking_id, queue_id
),
told AS (
    SELECT pg_notify({channel}, 'queued::' || queue_id)
    FROM (SELECT DISTINCT queue_id FROM stored WHERE {channel} IS NOT NULL) AS changed
)
SELECT
    CASE
        WHEN (SELECT count(*) FROM stored) < cardinality($1)
        THEN ARRAY(
            SELECT position::integer
            FROM unnest($1) WITH ORDINALITY AS given (tracking_id, position)
            WHERE tracking_id NOT IN (SELECT tracking_id FROM stored)
        )
    END AS standing,
    (SELECT count(*) FROM told) AS told
