-- The running jobs of a queue, oldest lease end first, each as it will be once it is claimed. Read lazily.
SELECT {claimed}
FROM pannier_jobs INDEXED BY pannier_jobs_leased
WHERE queue_id = :queue_id AND status = 'running'
ORDER BY dequeue_after
