DELETE FROM pannier_jobs
WHERE seq IN (
    SELECT seq FROM pannier_jobs INDEXED BY pannier_jobs_finished
    WHERE queue_id = :queue_id AND status = :status AND finished_at <= :finished_until AND finished_at IS NOT NULL
    LIMIT :limit
)
