-- Writes what `{claimed}` in read_leases.sql and read_line.sql has foretold.
UPDATE pannier_jobs
SET
    status = 'running',
    attempt = attempt + 1,
    lapses = lapses + (status = 'running'),
    fence = fence + 1,
    dequeue_after = :lease_end,
    worker_id = :worker_id
WHERE seq IN (SELECT value FROM json_each(:seqs))
