INSERT INTO pannier_jobs (
    tracking_id, queue_id, priority, execute_after, dequeue_after, expire_on, created_at, idempotency_key,
    command, command_encoding, metadata
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
