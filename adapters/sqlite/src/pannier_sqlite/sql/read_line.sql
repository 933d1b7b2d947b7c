-- The waiting jobs of one priority in the order of R25, each as it will be once it is claimed. Read lazily.
SELECT {claimed}
FROM pannier_jobs INDEXED BY pannier_jobs_waiting
WHERE queue_id = :queue_id AND status = 'pending' AND priority = :priority
ORDER BY dequeue_after, tracking_id
