-- One row a migration. A store can be used by adapters that know `usable_from` of its last row, or more.
CREATE TABLE pannier_schema (
    version INTEGER PRIMARY KEY,
    usable_from INTEGER NOT NULL
) STRICT;

-- One row a job. Times are microseconds since 1970 in UTC, payloads JSON text (or a BLOB where a codec wrote bytes).
CREATE TABLE pannier_jobs (
    seq INTEGER PRIMARY KEY,
    tracking_id TEXT NOT NULL,
    queue_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    priority INTEGER NOT NULL,
    execute_after INTEGER NOT NULL,
    expire_on INTEGER,
    created_at INTEGER NOT NULL,
    dequeue_after INTEGER NOT NULL,
    finished_at INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    lapses INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    worker_id TEXT,
    idempotency_key TEXT,
    command ANY NOT NULL,
    command_encoding TEXT NOT NULL,
    metadata TEXT,
    progress ANY,
    progress_encoding TEXT,
    result ANY,
    result_encoding TEXT,
    errors TEXT,
    CONSTRAINT tracking_id_is_a_uuid CHECK (length(tracking_id) = 36),
    CONSTRAINT priority_is_from_minus_100_to_100 CHECK (priority BETWEEN -100 AND 100),
    CONSTRAINT finished_at_is_set_if_and_only_if_complete CHECK (
        finished_at IS NULL AND (status = 'pending' OR status = 'running')
        OR finished_at IS NOT NULL
        AND (status = 'succeeded' OR status = 'failed' OR status = 'cancelled' OR status = 'expired')
    ),
    CONSTRAINT expire_on_lies_after_execute_after CHECK (expire_on > execute_after),
    CONSTRAINT counts_are_not_negative CHECK (attempt >= 0 AND lapses >= 0 AND fence >= 0),
    CONSTRAINT running_has_been_claimed CHECK (
        status <> 'running' OR worker_id IS NOT NULL AND attempt >= 1 AND fence >= 1
    ),
    CONSTRAINT pending_has_no_worker CHECK (status <> 'pending' OR worker_id IS NULL),
    CONSTRAINT only_success_has_a_result CHECK (result IS NULL OR status = 'succeeded'),
    CONSTRAINT result_has_an_encoding CHECK ((result IS NULL) = (result_encoding IS NULL)),
    CONSTRAINT progress_has_an_encoding CHECK ((progress IS NULL) = (progress_encoding IS NULL))
) STRICT;

CREATE UNIQUE INDEX pannier_jobs_tracking_id ON pannier_jobs (tracking_id);

CREATE UNIQUE INDEX pannier_jobs_idempotency_key ON pannier_jobs (queue_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

-- Waiting jobs in the order of their claims: each priority of a queue is a line of its own.
CREATE INDEX pannier_jobs_waiting ON pannier_jobs (queue_id, priority DESC, dequeue_after, tracking_id)
WHERE status = 'pending';

-- Running jobs by the end of their leases.
CREATE INDEX pannier_jobs_leased ON pannier_jobs (queue_id, dequeue_after)
WHERE status = 'running';

-- For purges: what may expire, and what has ended.
CREATE INDEX pannier_jobs_expiring ON pannier_jobs (queue_id, expire_on)
WHERE finished_at IS NULL AND expire_on IS NOT NULL;

CREATE INDEX pannier_jobs_finished ON pannier_jobs (queue_id, status, finished_at)
WHERE finished_at IS NOT NULL;
