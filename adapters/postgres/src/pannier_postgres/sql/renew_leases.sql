-- $1: tracking ids, $2: fences, $3: the new end. Answers the positions, from 1, of the leases that were not renewed:
-- they do not stand, or somebody else has locked their jobs at this moment (R39).
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS given (tracking_id, fence, position)
),
held AS MATERIALIZED (
    SELECT given.position, job.tracking_id
    FROM given
    CROSS JOIN LATERAL (
        SELECT tracking_id FROM {schema}.jobs
        WHERE jobs.tracking_id = given.tracking_id AND jobs.fence = given.fence AND status = 'running'
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS job
),
renewed AS (
    UPDATE {schema}.jobs SET dequeue_after = $3
    WHERE tracking_id = ANY (ARRAY(SELECT tracking_id FROM held))
)
SELECT ARRAY(SELECT position::integer FROM given WHERE position NOT IN (SELECT position FROM held)) AS missed
