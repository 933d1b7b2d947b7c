-- A count that another hand has set to the largest integer stays there: one more would fail the claim of every job.
-- Writes what `{claimed}` in read_leases.sql and read_line.sql has foretold.
UPDATE pannier_jobs
SET
    status = 'running',
    attempt = min(attempt, 9223372036854775806) + 1,
    lapses = min(lapses, 9223372036854775806) + (status = 'running'),
    fence = min(fence, 9223372036854775806) + 1,
    dequeue_after = :lease_end,
    worker_id = :worker_id
WHERE seq IN (SELECT value FROM json_each(:seqs))
