-- $1: tracking ids, $2: fences.
-- Answers the positions, from 1, of the leases that do not stand.
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS given (tracking_id, fence, position)
),
settled AS (
    UPDATE {schema}.jobs
    SET status = 'pending', attempt = attempt - 1, dequeue_after = execute_after, worker_id = NULL
    FROM given
    WHERE jobs.tracking_id = given.tracking_id AND jobs.fence = given.fence AND {is_running}
    RETURNING given.position, jobs.queue_id
),
told AS (
    SELECT pg_notify({channel}, 'queued::' || queue_id)
    FROM (SELECT DISTINCT queue_id FROM settled WHERE {channel} IS NOT NULL) AS changed
)
SELECT
    ARRAY(SELECT position::integer FROM given WHERE position NOT IN (SELECT position FROM settled)) AS missed,
    (SELECT count(*) FROM told) AS told
