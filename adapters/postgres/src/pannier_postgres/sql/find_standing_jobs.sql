-- $1: tracking ids, $2: queue ids, $3: keys or NULL. Answers for each which tracking id stands, its own before its key's,
-- as text: the connection may be a caller's, who reads UUIDs in a way of his own.
SELECT coalesce(
    (SELECT jobs.tracking_id FROM {schema}.jobs WHERE jobs.tracking_id = given.tracking_id),
    (
        SELECT jobs.tracking_id FROM {schema}.jobs
        WHERE jobs.queue_id = given.queue_id AND jobs.idempotency_key = given.idempotency_key
    )
)::text AS standing
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY
    AS given (tracking_id, queue_id, idempotency_key, position)
ORDER BY position
