"""Section B: one job for a key."""

from pannier_testing.builders import QUEUE, T0
from pannier_testing.rules import rule
from pannier_testing.trial import Trial


@rule("R13")
async def jobs_without_a_key_are_never_deduplicated(trial: Trial) -> None:
    """Many jobs that differ in nothing but their ids are all stored, in one batch and in several."""
    storage = await trial.open()
    together, apart = trial.jobs(5), trial.jobs(3)

    standing = await storage.store_jobs(together)
    for job in apart:
        standing += await storage.store_jobs([job])
    claimed = await trial.drain(storage, QUEUE)

    ids = [job.tracking_id for job in together + apart]
    trial.check.equal(standing, ids, "each job without a key is stored under its own id")
    trial.check.counts((job.tracking_id for job in claimed), ids, "jobs without a key are never deduplicated")


@rule("R13")
async def a_blank_key_is_no_key(trial: Trial) -> None:
    """The value turns an empty or blank key into None; any other key it leaves as it is."""
    make = trial.values.job_record
    for key in ("", " ", "\t\n", "\u00a0", None):
        job = trial.job()
        made = make(
            tracking_id=job.tracking_id,
            queue_id=QUEUE,
            command=job.command,
            execute_after=T0,
            expire_on=None,
            created_at=T0,
            idempotency_key=key,
        )
        trial.check.equal(made.idempotency_key, None, f"the blank key {key!r} is the same as no key")
