-- The queues that have jobs which may expire, each found by one look into an index.
WITH RECURSIVE
waiting (queue_id) AS (
    (
        SELECT queue_id FROM {schema}.jobs WHERE status = 'pending' AND expire_on IS NOT NULL
        ORDER BY queue_id LIMIT 1
    )
    UNION ALL
    SELECT next.queue_id
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT queue_id FROM {schema}.jobs
        WHERE status = 'pending' AND expire_on IS NOT NULL AND jobs.queue_id > waiting.queue_id
        ORDER BY queue_id LIMIT 1
    ) AS next
),
leased (queue_id) AS (
    (SELECT queue_id FROM {schema}.jobs WHERE status = 'running' ORDER BY queue_id LIMIT 1)
    UNION ALL
    SELECT next.queue_id
    FROM leased
    CROSS JOIN LATERAL (
        SELECT queue_id FROM {schema}.jobs WHERE status = 'running' AND jobs.queue_id > leased.queue_id
        ORDER BY queue_id LIMIT 1
    ) AS next
)
SELECT queue_id FROM waiting
UNION
SELECT queue_id FROM leased
