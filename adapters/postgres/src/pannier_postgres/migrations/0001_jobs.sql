CREATE TABLE {schema}.jobs (
    tracking_id uuid NOT NULL CONSTRAINT jobs_pkey PRIMARY KEY,
    -- COLLATE "C": names and keys are compared byte by byte, whatever the database's locale is, and a new version of
    -- its collations breaks no index.
    queue_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'pending',
    priority smallint NOT NULL DEFAULT 0,
    execute_after timestamptz NOT NULL,
    dequeue_after timestamptz NOT NULL,
    expire_on timestamptz,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    lapses integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    worker_id text,
    idempotency_key text COLLATE "C",
    metadata jsonb NOT NULL DEFAULT '{}',
    -- A payload is either JSON or bytes, and says how it was encoded. json, not jsonb: it is kept to the letter, where
    -- jsonb turns -0.0 into 0.0, writes 1e23 out, and refuses \u0000 and lone surrogates.
    command json,
    command_bytes bytea,
    command_encoding text NOT NULL,
    progress json,
    progress_bytes bytea,
    progress_encoding text,
    result json,
    result_bytes bytea,
    result_encoding text,
    errors jsonb,
    CONSTRAINT jobs_priority_in_range CHECK (priority BETWEEN -100 AND 100),
    CONSTRAINT jobs_expire_after_execute CHECK (expire_on > execute_after),
    CONSTRAINT jobs_command_is_one_value CHECK (num_nonnulls(command, command_bytes) = 1),
    CONSTRAINT jobs_progress_is_one_value
        CHECK (num_nonnulls(progress, progress_bytes) = num_nonnulls(progress_encoding)),
    CONSTRAINT jobs_result_is_one_value CHECK (num_nonnulls(result, result_bytes) = num_nonnulls(result_encoding)),
    CONSTRAINT jobs_result_only_of_success CHECK (status = 'succeeded' OR result_encoding IS NULL),
    CONSTRAINT jobs_counts_add_up CHECK (0 <= lapses AND lapses <= attempt AND attempt <= fence),
    CONSTRAINT jobs_status_fits CHECK (
        CASE status
            WHEN 'pending' THEN finished_at IS NULL AND worker_id IS NULL
            WHEN 'running' THEN finished_at IS NULL AND worker_id IS NOT NULL AND attempt > 0
            ELSE finished_at IS NOT NULL AND status IN ('succeeded', 'failed', 'cancelled', 'expired')
        END
    )
) WITH (
    -- A job's row is written three times: stored, claimed, settled. What each version leaves behind is dead weight in
    -- the indexes until a vacuum, so vacuum by the count of dead rows and not by a fifth of a table full of finished
    -- jobs, and let it hurry.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05,
    -- Giving the emptied end of the table back takes a lock that stops everybody; it is filled again soon.
    vacuum_truncate = off
    -- No fillfactor: every change of status moves the job from one index to another, so few updates are saved an index
    -- entry by room in the page. 70 made the table 40 % larger for 2 % less WAL.
);

CREATE UNIQUE INDEX jobs_key ON {schema}.jobs (queue_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- What waits, in the order in which it is claimed.
CREATE INDEX jobs_line ON {schema}.jobs (queue_id, priority DESC, dequeue_after, tracking_id)
WHERE status = 'pending';

-- What is leased, by the end of the lease.
CREATE INDEX jobs_leases ON {schema}.jobs (queue_id, dequeue_after, tracking_id) WHERE status = 'running';

-- What waits and will expire.
CREATE INDEX jobs_expiry ON {schema}.jobs (queue_id, expire_on) WHERE status = 'pending' AND expire_on IS NOT NULL;

-- What is complete, by when it became so.
CREATE INDEX jobs_finished ON {schema}.jobs (status, finished_at)
WHERE status IN ('succeeded', 'failed', 'cancelled', 'expired');

COMMENT ON TABLE {schema}.jobs IS 'Background jobs of pannier. Change rows through pannier only: each write is guarded by the fence.';
