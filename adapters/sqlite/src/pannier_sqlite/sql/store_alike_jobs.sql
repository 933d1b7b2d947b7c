-- First what the jobs have in common, then the id and the command of each. "WHERE true" tells ON CONFLICT from a join.
INSERT INTO pannier_jobs (
    tracking_id, command, queue_id, priority, execute_after, dequeue_after, expire_on, created_at, idempotency_key,
    command_encoding, metadata
)
SELECT column1, column2, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM (VALUES {pairs})
WHERE true
ON CONFLICT DO NOTHING
