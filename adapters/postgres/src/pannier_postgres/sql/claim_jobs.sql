-- $1: the number of each queue's demand, $2: the queues, $3: the demands' limits, $4: now, $5: the end of the leases,
-- $6: the worker, $7: how many expired jobs make a crowd, $8: jobs that are being settled by this instance.
WITH RECURSIVE
demand AS MATERIALIZED (
    SELECT * FROM unnest($1::integer[], $2::text[], $3::integer[]) AS demand (number, queue_id, wanted)
),
-- Expired jobs stand in the way: whoever claims marks them first, if there are many. Here they are only counted.
crowd AS MATERIALIZED (
    SELECT count(*) AS expired
    FROM (
        SELECT
        FROM demand
        CROSS JOIN LATERAL (
            SELECT FROM {schema}.jobs
            WHERE status = 'pending' AND jobs.queue_id = demand.queue_id AND expire_on <= $4
            ORDER BY expire_on
        ) AS late
        LIMIT $7
    ) AS late
),
-- Each priority in use, found by one look into the index: those who wait for later are never read (R119).
line (number, queue_id, priority) AS (
    SELECT demand.number, demand.queue_id, highest.priority
    FROM demand
    CROSS JOIN LATERAL (
        SELECT priority FROM {schema}.jobs
        WHERE status = 'pending' AND jobs.queue_id = demand.queue_id
        ORDER BY priority DESC
        LIMIT 1
    ) AS highest
    UNION ALL
    SELECT line.number, line.queue_id, next.priority
    FROM line
    CROSS JOIN LATERAL (
        SELECT priority FROM {schema}.jobs
        WHERE status = 'pending' AND jobs.queue_id = line.queue_id AND jobs.priority < line.priority
        ORDER BY priority DESC
        LIMIT 1
    ) AS next
),
-- Rows are locked one by one as the LIMIT of their demand asks for them, lapsed leases before the line (R25).
taken AS MATERIALIZED (
    SELECT candidate.tracking_id
    FROM (
        SELECT number, min(wanted) AS wanted FROM demand
        WHERE (SELECT expired FROM crowd) < $7
        GROUP BY number
    ) AS wish
    CROSS JOIN LATERAL (
        SELECT tracking_id
        FROM (
            SELECT lapsed.tracking_id
            FROM demand
            CROSS JOIN LATERAL (
                SELECT tracking_id FROM {schema}.jobs
                WHERE
                    status = 'running' AND jobs.queue_id = demand.queue_id AND dequeue_after <= $4
                    AND (expire_on IS NULL OR expire_on > $4)
                    AND NOT tracking_id = ANY ($8::uuid[])
                ORDER BY dequeue_after, tracking_id
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS lapsed
            WHERE demand.number = wish.number
            UNION ALL
            SELECT due.tracking_id
            FROM (SELECT queue_id, priority FROM line WHERE number = wish.number ORDER BY priority DESC) AS step
            CROSS JOIN LATERAL (
                SELECT tracking_id FROM {schema}.jobs
                WHERE
                    status = 'pending' AND jobs.queue_id = step.queue_id AND jobs.priority = step.priority
                    AND dequeue_after <= $4 AND (expire_on IS NULL OR expire_on > $4)
                ORDER BY dequeue_after, tracking_id
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS due
        ) AS waiting
        LIMIT wish.wanted
    ) AS candidate
),
-- Not UPDATE ... FROM taken: that may read the whole table.
claimed AS (
    UPDATE {schema}.jobs
    SET
        status = 'running',
        -- A count that another hand has set to the largest number stays there: one more would fail the whole claim.
        attempt = least(attempt, 2147483646) + 1,
        lapses = least(lapses, 2147483646) + (status = 'running')::integer,
        fence = least(fence, 9223372036854775806) + 1,
        dequeue_after = $5,
        worker_id = $6
    WHERE tracking_id = ANY (ARRAY(SELECT tracking_id FROM taken))
    RETURNING {claimed}
),
-- When the first of all others falls due, those included that somebody else has locked (R121). The line first: where it
-- has more that is due by now, no lease that lives can come before it, and the ends of those need not be read.
next_due_in_line AS MATERIALIZED (
    SELECT min(first.dequeue_after) AS at
    FROM line
    CROSS JOIN LATERAL (
        SELECT dequeue_after FROM {schema}.jobs
        WHERE
            status = 'pending' AND jobs.queue_id = line.queue_id AND jobs.priority = line.priority
            AND (expire_on IS NULL OR expire_on > $4)
            AND tracking_id NOT IN (SELECT tracking_id FROM claimed)
        ORDER BY dequeue_after
        LIMIT 1
    ) AS first
),
next_lease AS MATERIALIZED (
    SELECT min(first.dequeue_after) AS at
    FROM demand
    CROSS JOIN LATERAL (
        SELECT dequeue_after FROM {schema}.jobs
        WHERE
            status = 'running' AND jobs.queue_id = demand.queue_id
            AND (expire_on IS NULL OR expire_on > $4 OR dequeue_after > $4)
            AND tracking_id NOT IN (SELECT tracking_id FROM claimed)
            AND dequeue_after <= coalesce((SELECT at FROM next_due_in_line WHERE at <= $4), 'infinity')
        ORDER BY dequeue_after
        LIMIT 1
    ) AS first
),
answer AS MATERIALIZED (
    SELECT
        crowd.expired,
        CASE
            WHEN crowd.expired < $7 THEN least((SELECT at FROM next_due_in_line), (SELECT at FROM next_lease))
            ELSE $4
        END AS next_due
    FROM crowd
)
-- First what the claim itself answers, then a row for each job, which need not repeat it: a timestamp takes the driver
-- 0.8 us to read.
SELECT answer.*, claimed.*
FROM answer
LEFT JOIN claimed ON false
UNION ALL
SELECT NULL, NULL, claimed.*
FROM claimed
