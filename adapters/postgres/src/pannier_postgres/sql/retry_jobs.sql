-- $1: tracking ids, $2: fences, $3: errors, $4: when to try again.
-- Answers the positions, from 1, of the leases that do not stand, and of the jobs that expire before their next try.
WITH given AS (
    SELECT *
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[]) WITH ORDINALITY
        AS given (tracking_id, fence, error, retry_at, position)
),
settled AS (
    UPDATE {schema}.jobs
    SET
        status = 'pending',
        attempt = attempt - lapses,
        lapses = 0,
        dequeue_after = given.retry_at,
        worker_id = NULL,
        errors = {errors_and_given}
    FROM given
    WHERE
        jobs.tracking_id = given.tracking_id AND jobs.fence = given.fence AND {is_running}
        AND (jobs.expire_on IS NULL OR jobs.expire_on > given.retry_at)
    RETURNING given.position, jobs.queue_id
),
told AS (
    SELECT pg_notify({channel}, 'queued::' || queue_id)
    FROM (SELECT DISTINCT queue_id FROM settled WHERE {channel} IS NOT NULL) AS changed
)
SELECT
    ARRAY(SELECT position::integer FROM given WHERE position NOT IN (SELECT position FROM settled)) AS missed,
    (SELECT count(*) FROM told) AS told
