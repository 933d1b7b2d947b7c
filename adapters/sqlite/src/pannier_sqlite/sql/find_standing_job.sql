-- The tracking id that stands for a job which could not be inserted: its own, else the one that has its key (R7, R10).
SELECT coalesce(
    (SELECT tracking_id FROM pannier_jobs WHERE tracking_id = ?),
    (SELECT tracking_id FROM pannier_jobs WHERE queue_id = ? AND idempotency_key = ?)
)
