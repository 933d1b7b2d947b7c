-- $1: queues, $2: statuses, $3: metadata; NULL is any. $4: from which tracking id on, $5: how many at most.
SELECT {record} FROM {schema}.jobs
WHERE
    tracking_id >= $4
    AND ($1::text[] IS NULL OR queue_id = ANY ($1))
    AND ($2::text[] IS NULL OR status = ANY ($2))
    AND ($3::text IS NULL OR metadata @> $3::text::jsonb)
ORDER BY tracking_id
LIMIT $5
