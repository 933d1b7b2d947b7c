-- $1: tracking ids, $2: fences, $3 to $5: results, $6: now. Of each but $1 one value, where all have that.
-- Answers the positions, from 1, of the leases that do not stand.
WITH given AS (
    SELECT
        tracking_id,
        position,
        CASE WHEN cardinality($2) = 1 THEN $2[1] ELSE fence END AS fence,
        CASE WHEN cardinality($3) = 1 THEN $3[1] ELSE encoding END AS encoding,
        CASE WHEN cardinality($4) = 1 THEN $4[1] ELSE result END AS result,
        CASE WHEN cardinality($5) = 1 THEN $5[1] ELSE result_bytes END AS result_bytes
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bytea[]) WITH ORDINALITY
        AS given (tracking_id, fence, encoding, result, result_bytes, position)
),
settled AS (
    UPDATE {schema}.jobs
    SET
        status = 'succeeded',
        lapses = 0,
        progress = NULL,
        progress_bytes = NULL,
        progress_encoding = NULL,
        result = given.result::json,
        result_bytes = given.result_bytes,
        result_encoding = given.encoding,
        finished_at = $6
    FROM given
    WHERE jobs.tracking_id = given.tracking_id AND jobs.fence = given.fence AND {is_running}
    RETURNING given.position, jobs.tracking_id, jobs.queue_id
),
told AS ({tell_finished})
SELECT
    ARRAY(SELECT position::integer FROM given WHERE position NOT IN (SELECT position FROM settled)) AS missed,
    (SELECT count(*) FROM told) AS told
