"""Section J, R75 and R78, continued: a requeue beside other calls."""

from pannier.inspection import Requeue
from pannier.purging import Purged
from pannier.records import Cancellation, JobStatus
from pannier_testing import acts
from pannier_testing.builders import MINUTE, T0
from pannier_testing.rules import Need, rule, rules
from pannier_testing.trial import Trial, inspector_of


@rule("R78", needs=frozenset({Need.INSPECT}))
async def a_job_that_was_not_due_is_due_once_requeued(trial: Trial) -> None:
    """A job that was cancelled long before its time is due as of its requeue, however early that is."""
    storage = await trial.open()
    job = trial.job(trial.queue(), execute_after=T0 + 1000 * MINUTE)
    await storage.store_jobs([job])
    await acts.cancelled(storage, job)
    now = T0 + MINUTE
    await inspector_of(storage).requeue_job(job.tracking_id, now=now, expire_on=None)
    (again,) = await trial.read(storage, job)
    seen = (again.execute_after, again.dequeue_after)
    trial.check.equal(seen, (now, now), "when a job is due that was requeued before the time that it once had")
    taken = await acts.claimed_ids(storage, job.queue_id, now=now)
    trial.check.equal(taken, [job.tracking_id], "a job that was requeued before the time that it once had is claimed")


@rule("R78", needs=frozenset({Need.INSPECT}))
async def simultaneous_requeues_make_one(trial: Trial) -> None:
    """A job is requeued by two at the same time: one of them does it, the other finds it waiting already."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(12):
        job = await trial.brought_to(storage, JobStatus.FAILED)
        now, other = T0 + MINUTE, schedule.rng.choice([storage, second])
        answers = await schedule.jittered(
            inspector_of(storage).requeue_job(job.tracking_id, now=now, expire_on=None),
            inspector_of(other).requeue_job(job.tracking_id, now=now, expire_on=None),
        )
        trial.check.counts(
            answers, [Requeue.REQUEUED, Requeue.NOT_COMPLETE], "of two simultaneous requeues one makes the job wait"
        )
        (again,) = await trial.read(storage, job)
        seen = (again.status, again.fence)
        trial.check.equal(seen, (JobStatus.PENDING, job.fence + 1), "a job that two have requeued was requeued once")


@rules("R75", "R78", needs=frozenset({Need.INSPECT}))
async def a_requeue_and_a_purge_agree(trial: Trial) -> None:
    """A job whose retention is over is requeued while it is purged: it waits, or it is gone, as both answers say."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        job = await trial.brought_to(storage, JobStatus.FAILED)
        now, other = T0 + MINUTE, schedule.rng.choice([storage, second])
        answer, purged = await trial.check.answers(
            schedule.raced(
                inspector_of(storage).requeue_job(job.tracking_id, now=now, expire_on=None),
                acts.purge(other, JobStatus.FAILED, now=now, keep=MINUTE, queue_ids=frozenset({job.queue_id})),
            ),
            "requeueing and purging at the same time is no error",
        )
        left = await storage.get_job(job.tracking_id)
        status = None if left is None else left.status
        trial.check.true(
            (answer, purged, status)
            in {(Requeue.REQUEUED, Purged(0, 0), JobStatus.PENDING), (Requeue.NOT_FOUND, Purged(0, 1), None)},
            "a job that is requeued while it is purged waits or is gone, and both answers say which",
            expected="REQUEUED, none deleted, pending; or NOT_FOUND, one deleted, no job",
            seen=f"{answer.name}, {purged.deleted} deleted, {status or 'no job'}",
        )


@rule("R78", needs=frozenset({Need.INSPECT}))
async def a_requeue_and_a_cancel_agree(trial: Trial) -> None:
    """A failed job is requeued while it is cancelled: it waits and the cancel came too early, or it is cancelled."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(12):
        job = await trial.brought_to(storage, JobStatus.FAILED)
        now = T0 + MINUTE
        answer, cancelled = await schedule.raced(
            inspector_of(storage).requeue_job(job.tracking_id, now=now, expire_on=None),
            acts.cancelled(schedule.rng.choice([storage, second]), job, now=now),
        )
        trial.check.equal(answer, Requeue.REQUEUED, "a failed job can be requeued while somebody cancels it")
        (again,) = await trial.read(storage, job)
        is_over = cancelled is Cancellation.CANCELLED
        trial.check.equal(
            (again.status, again.fence, again.finished_at),
            (JobStatus.CANCELLED, job.fence + 1, now) if is_over else (JobStatus.PENDING, job.fence + 1, None),
            f"a job that was requeued while it was cancelled, which was answered {cancelled.name}",
        )
