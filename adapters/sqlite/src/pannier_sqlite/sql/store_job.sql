INSERT INTO pannier_jobs (
    tracking_id, command, queue_id, priority, execute_after, dequeue_after, expire_on, created_at, idempotency_key,
    command_encoding, metadata
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
