"""Section D: no job goes to two claimers."""

from pannier_testing.builders import claim_of
from pannier_testing.rules import rule
from pannier_testing.trial import Trial


@rule("R30")
async def simultaneous_claims_share_out_each_job_once(trial: Trial) -> None:
    """Six claimers on one instance drain a queue: every due job goes to exactly one of them."""
    storage = await trial.open()
    for schedule in trial.schedules(20):
        queue = trial.queue()
        stored = trial.jobs(20, queue)
        await storage.store_jobs(stored)

        claims = [claim_of(queue, limit=5, worker=f"worker-{n}") for n in range(6)]
        batches = await schedule.jittered(*(storage.claim_jobs(claim) for claim in claims))
        rest = await trial.drain(storage, queue)  # contended claims may come back short

        claimed = [job.tracking_id for batch in batches for job in batch.jobs] + [job.tracking_id for job in rest]
        trial.check.counts(
            claimed, (job.tracking_id for job in stored), "every due job goes to exactly one of several claimers"
        )
