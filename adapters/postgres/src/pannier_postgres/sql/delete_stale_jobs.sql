-- $1: statuses, $2: until when each is kept, $3: queues, or NULL for all, $4: how many at most.
WITH over AS MATERIALIZED (
    SELECT job.tracking_id
    FROM unnest($1::text[], $2::timestamptz[]) AS kept (status, finished_until)
    CROSS JOIN LATERAL (
        SELECT tracking_id FROM {schema}.jobs
        WHERE
            jobs.status = kept.status AND finished_at <= kept.finished_until
            AND status IN ('succeeded', 'failed', 'cancelled', 'expired')
            AND ($3::text[] IS NULL OR queue_id = ANY ($3))
        ORDER BY finished_at
        FOR UPDATE SKIP LOCKED
    ) AS job
    LIMIT $4
),
deleted AS (
    DELETE FROM {schema}.jobs WHERE tracking_id = ANY (ARRAY(SELECT tracking_id FROM over)) RETURNING 1
)
SELECT count(*) FROM deleted
