UPDATE pannier_jobs SET status = 'expired', finished_at = :now
WHERE seq IN (
    SELECT seq FROM pannier_jobs INDEXED BY pannier_jobs_expiring
    WHERE
        queue_id = :queue_id AND finished_at IS NULL AND expire_on <= :now
        AND (status = 'pending' OR dequeue_after <= :now)
    LIMIT :limit
)
