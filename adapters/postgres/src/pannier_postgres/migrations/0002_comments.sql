-- For people at a shell: what a column says that its name does not. No code depends on it.
COMMENT ON COLUMN {schema}.jobs.status IS 'pending, running, succeeded, failed, cancelled or expired';
COMMENT ON COLUMN {schema}.jobs.priority IS 'from -100 to 100; the highest is claimed first';
COMMENT ON COLUMN {schema}.jobs.dequeue_after IS 'when it may be claimed: while it is running, the end of its lease';
COMMENT ON COLUMN {schema}.jobs.expire_on IS 'from when on it may not start any more; null: it never expires';
COMMENT ON COLUMN {schema}.jobs.attempt IS 'how often it was claimed, releases not counted; 0 again after a requeue';
COMMENT ON COLUMN {schema}.jobs.lapses IS 'claims in a row whose lease has lapsed: workers that died of it, or with it';
COMMENT ON COLUMN {schema}.jobs.fence IS 'goes up with each claim and requeue; who writes under an older one is refused';
COMMENT ON COLUMN {schema}.jobs.worker_id IS 'who runs it, or ran it last';
COMMENT ON COLUMN {schema}.jobs.errors IS 'the last ten failed attempts, oldest first';
