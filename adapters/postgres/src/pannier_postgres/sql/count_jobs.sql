-- $1: queues, $2: statuses, $3: metadata; NULL is any.
SELECT queue_id, status, count(*) FROM {schema}.jobs
WHERE
    ($1::text[] IS NULL OR queue_id = ANY ($1))
    AND ($2::text[] IS NULL OR status = ANY ($2))
    AND ($3::text IS NULL OR metadata @> $3::text::jsonb)
GROUP BY queue_id, status
