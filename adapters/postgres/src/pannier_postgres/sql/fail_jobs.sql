-- $1: tracking ids, $2: fences, $3: errors, $4: now.
-- Answers the positions, from 1, of the leases that do not stand.
WITH given AS (
    SELECT *
    FROM unnest($1::uuid[], $2::bigint[], $3::text[]) WITH ORDINALITY AS given (tracking_id, fence, error, position)
),
settled AS (
    UPDATE {schema}.jobs
    SET status = 'failed', lapses = 0, errors = {errors_and_given}, finished_at = $4
    FROM given
    WHERE jobs.tracking_id = given.tracking_id AND jobs.fence = given.fence AND {is_running}
    RETURNING given.position, jobs.tracking_id, jobs.queue_id
),
told AS ({tell_finished})
SELECT
    ARRAY(SELECT position::integer FROM given WHERE position NOT IN (SELECT position FROM settled)) AS missed,
    (SELECT count(*) FROM told) AS told
