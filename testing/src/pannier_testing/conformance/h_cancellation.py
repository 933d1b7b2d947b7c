"""Section H: a cancelled job is over at once and for good."""

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from attrs import evolve

from pannier.records import Cancellation, JobRecord, JobStatus, Json, Payload
from pannier.settlements import Outcome, Release, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts, crowds
from pannier_testing.builders import LEASE, SECOND, T0, failed, full_job, retry
from pannier_testing.checks import InconclusiveError
from pannier_testing.jitter import Schedule
from pannier_testing.processes import barrier
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, results_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

DAY: Final = timedelta(days=1)
OUTCOMES: Final[tuple[Outcome, ...]] = (Succeeded(), Succeeded(Payload("late")), failed(), retry(T0 + DAY), Release())
ENDINGS: Final[tuple[Outcome, ...]] = (Succeeded(Payload("done")), failed())
RETURNS: Final[tuple[Outcome, ...]] = (retry(T0 + 2 * SECOND), retry(T0), Release())


@rule("R60")
async def a_cancelled_job_is_never_claimed(trial: Trial) -> None:
    """A job cancelled while pending, scheduled, released or waiting for its retry is claimed by nobody, ever."""
    storage = await trial.open()
    scheduled = trial.job(trial.queue(), execute_after=T0 + 10 * SECOND)
    waiting = {
        "pending": trial.job(trial.queue()),
        "scheduled": scheduled,
        "keyed": full_job(trial.tracking_id(), trial.queue()),
        "released": await _settled_as(trial, storage, Release()),
        "waiting for its retry": await _settled_as(trial, storage, retry(T0 + 10 * SECOND)),
        "past its expiry": trial.job(trial.queue(), execute_after=T0 - SECOND, expire_on=T0),
    }
    await storage.store_jobs([waiting[name] for name in ("pending", "scheduled", "keyed", "past its expiry")])
    for name, job in waiting.items():
        answer = await acts.cancelled(storage, job, now=T0 + SECOND)
        trial.check.equal(answer, Cancellation.CANCELLED, f"a job that is {name} can be cancelled")
        ended = evolve(job, status=JobStatus.CANCELLED, finished_at=T0 + SECOND)
        trial.check.equal(
            await storage.get_job(job.tracking_id), ended, f"the record of a job that was {name} and is cancelled"
        )
        for now in (T0 + SECOND, T0 + 10 * SECOND, T0 + 10 * SECOND + LEASE, T0 + DAY):
            taken = await acts.claimed_ids(storage, job.queue_id, now=now)
            trial.check.equal(taken, [], f"a job cancelled while {name} is not claimed at {now}")


@rule("R60")
async def cancelling_one_job_leaves_the_others(trial: Trial) -> None:
    """Of several jobs only the one that was cancelled is missing from the claim; the others are unchanged."""
    storage = await trial.open()
    queue = trial.queue()
    jobs = trial.jobs(5, queue)
    await storage.store_jobs(jobs)

    await acts.cancelled(storage, jobs[2])

    rest = [job for job in jobs if job is not jobs[2]]
    for job in rest:
        trial.check.equal(await storage.get_job(job.tracking_id), job, "the neighbour of a cancelled job is unchanged")
    taken = await acts.claimed_ids(storage, queue)
    trial.check.counts(taken, (job.tracking_id for job in rest), "all but the cancelled job are claimed")


async def _settled_as(trial: Trial, storage: JobStorageProvider, outcome: Outcome) -> JobRecord:
    """Return the record of a job in a queue of its own that was claimed and settled with *outcome*."""
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, outcome)
    return await _record(trial, storage, job.tracking_id)


async def _record(trial: Trial, storage: JobStorageProvider, tracking_id: UUID) -> JobRecord:
    record = await storage.get_job(tracking_id)
    if record is None:
        trial.check.fails("a job is kept until it is purged", expected=f"the job {tracking_id}", seen="None")
    return record


@rule("R61")
async def a_running_job_is_cancelled_from_any_instance(trial: Trial) -> None:
    """Another instance, on this loop or a thread, cancels a running job; all see it at once, the holder is refused."""
    storage, second, third = await trial.open(), await trial.open(), await trial.open_on_thread()
    for where in ("the holder's instance", "another instance", "an instance on another thread"):
        for outcome in (None, *OUTCOMES):
            job = await trial.started(storage)
            # Also where its lease has lapsed, and nobody has taken it over yet.
            now = T0 + LEASE if where == "another instance" else T0 + SECOND

            async def cancel(instance: JobStorageProvider, job: JobRecord = job, now: datetime = now) -> Cancellation:
                return await acts.cancelled(instance, job, now=now)

            if where == "an instance on another thread":
                answer = await third.run(cancel)
            else:
                answer = await cancel(second if where == "another instance" else storage)
            trial.check.equal(answer, Cancellation.CANCELLED, f"a running job can be cancelled from {where}")
            await _check_cancelled_running(trial, storage, job, outcome, now)


async def _check_cancelled_running(
    trial: Trial, storage: JobStorageProvider, job: JobRecord, outcome: Outcome | None, now: datetime
) -> None:
    """Check that *job* is over, and that its holder is refused the renewal, or the settlement with *outcome*."""
    ended = evolve(job, status=JobStatus.CANCELLED, finished_at=now)
    trial.check.equal(await storage.get_job(job.tracking_id), ended, "a running job that is cancelled is so at once")
    why = "the holder of a cancelled job learns it"
    if outcome is None:
        await acts.must_have_lost(trial.check, storage, job, why, now=now + SECOND)
    else:
        await acts.must_refuse(trial.check, storage, job, outcome, why, now=now + SECOND)
    trial.check.equal(
        await storage.get_job(job.tracking_id), ended, "what the holder of a cancelled job writes changes nothing"
    )


@rule("R62")
async def a_finished_job_cannot_be_cancelled(trial: Trial) -> None:
    """Cancel of a SUCCEEDED, FAILED or EXPIRED job answers ALREADY_COMPLETE and changes nothing, its result neither."""
    storage = await trial.open()
    expired = trial.job(trial.queue(), expire_on=T0 + SECOND)
    await storage.store_jobs([expired])
    await acts.purge(storage, now=T0 + SECOND, queue_ids=frozenset({expired.queue_id}))
    ended = (
        await _settled_as(trial, storage, Succeeded(Payload({"sum": 3}))),
        await _settled_as(trial, storage, Succeeded()),
        await _settled_as(trial, storage, failed()),
        await _record(trial, storage, expired.tracking_id),
    )
    for job in ended:
        answer = await acts.cancelled(storage, job, now=T0 + 2 * SECOND)
        trial.check.equal(answer, Cancellation.ALREADY_COMPLETE, f"cancelling a job that is {job.status}")
        trial.check.equal(
            await storage.get_job(job.tracking_id), job, f"cancelling a job that is {job.status} touches nothing"
        )
        if trial.offers(Need.RESULTS):
            kept = await results_of(storage).get_job_result(job.tracking_id)
            trial.check.equal(
                None if kept is None else (kept.status, kept.result),
                (job.status, job.result),
                f"cancelling a job that is {job.status} leaves its result",
            )


@rule("R63")
async def cancelling_twice_or_nothing_is_an_answer(trial: Trial) -> None:
    """Cancel of an unknown job is NOT_FOUND; of a cancelled one CANCELLED again, its record unchanged."""
    storage = await trial.open()
    unknown = await trial.check.answers(
        storage.cancel_job(trial.tracking_id(), now=T0), "cancelling an unknown job is no error"
    )
    trial.check.equal(unknown, Cancellation.NOT_FOUND, "cancelling an unknown job")
    pending, running = trial.job(trial.queue()), await trial.started(storage)
    await storage.store_jobs([pending])
    for job in (pending, running):
        await acts.cancelled(storage, job, now=T0 + SECOND)
        before = await _record(trial, storage, job.tracking_id)
        for now in (T0 + SECOND, T0 + 2 * SECOND, T0 + DAY):
            again = await trial.check.answers(
                acts.cancelled(storage, job, now=now), "cancelling a cancelled job is no error"
            )
            trial.check.equal(again, Cancellation.CANCELLED, f"cancelling a cancelled job again, at {now}")
            trial.check.equal(
                await storage.get_job(job.tracking_id), before, "cancelling a cancelled job again changes nothing"
            )


@rule("R64")
async def a_cancelled_job_is_not_claimed_or_its_holder_is_refused(trial: Trial) -> None:
    """While jobs are claimed they are cancelled: each ends CANCELLED; whoever got one is refused afterwards."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        queue = trial.queue()
        jobs = trial.jobs(3, queue)
        await storage.store_jobs(jobs)
        claimer, canceller = schedule.rng.choice([(storage, storage), (storage, second)])
        answers: dict[UUID, Cancellation] = {}
        taken: list[JobRecord] = []

        async def cancel(
            job: JobRecord, storage: JobStorageProvider = canceller, into: dict[UUID, Cancellation] = answers
        ) -> None:
            into[job.tracking_id] = await acts.cancelled(storage, job, now=T0)

        async def claim(
            queue: str = queue, storage: JobStorageProvider = claimer, into: list[JobRecord] = taken
        ) -> None:
            into += await acts.claim(storage, queue, limit=3)

        calls: list[Awaitable[None]] = [claim(), *(cancel(job) for job in jobs)]
        await schedule.jittered(*calls)

        await _check_all_cancelled(trial, storage, jobs, answers, taken)


@rule("R64", needs=frozenset({Need.SHARED}))
async def processes_that_claim_and_cancel_agree(trial: Trial) -> None:
    """One process claims what another cancels: each job ends CANCELLED; whoever got one is refused afterwards."""
    storage = await trial.open()
    claimer, canceller = await asyncio.gather(trial.open_child(), trial.open_child())
    for _ in range(10):
        queue = trial.queue()
        jobs = trial.jobs(20, queue)
        await storage.store_jobs(jobs)
        start_at = barrier()
        order: list[Json] = [str(job.tracking_id) for job in trial.rng.sample(jobs, len(jobs))]
        fences, answers = await asyncio.gather(
            claimer.run(crowds.claim_one_by_one, start_at=start_at, queue_id=queue),
            canceller.run(crowds.cancel_one_by_one, start_at=start_at, tracking_ids=order),
        )

        taken = [evolve(job, fence=fences[str(job.tracking_id)]) for job in jobs if str(job.tracking_id) in fences]
        told = {UUID(str(name)): Cancellation(answer) for name, answer in zip(order, answers, strict=True)}
        await _check_all_cancelled(trial, storage, jobs, told, taken)
        if 0 < len(taken) < len(jobs):
            return
    raise InconclusiveError("in ten rounds the two processes never met: all jobs were claimed first, or none was")


async def _check_all_cancelled(
    trial: Trial,
    storage: JobStorageProvider,
    jobs: list[JobRecord],
    answers: dict[UUID, Cancellation],
    taken: list[JobRecord],
) -> None:
    trial.check.equal(
        set(answers.values()), {Cancellation.CANCELLED}, "cancelling an unfinished job, claimed or not, is CANCELLED"
    )
    for job in taken:
        why = "a job was cancelled and yet claimed"
        await acts.must_have_lost(trial.check, storage, job, why, now=T0 + SECOND)
        await acts.must_refuse(trial.check, storage, job, Succeeded(), why, now=T0 + SECOND)
    for job in jobs:
        record = await _record(trial, storage, job.tracking_id)
        trial.check.equal(
            (record.status, record.finished_at),
            (JobStatus.CANCELLED, T0),
            "a job that was cancelled while it was claimed is CANCELLED",
        )
    later = await acts.claimed_ids(storage, jobs[0].queue_id, now=T0 + DAY)
    trial.check.equal(later, [], "a job that was cancelled while it was claimed is claimed no more")


async def _cancel_while_settling(
    schedule: Schedule,
    job: JobRecord,
    outcome: Outcome,
    instances: tuple[JobStorageProvider, JobStorageProvider],
    now: datetime,
) -> tuple[bool, Cancellation]:
    """Settle *job* on the first of *instances* and cancel it on the other, at the same time; return both answers."""
    settling, cancelling = instances
    return await schedule.raced(acts.settle(settling, job, outcome, now=now), acts.cancelled(cancelling, job, now=now))


@rule("R65")
async def cancelling_and_settling_have_one_outcome(trial: Trial) -> None:
    """While a job is settled for good it is cancelled: one of the two wins, and both answers say which."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        outcome = schedule.rng.choice(ENDINGS)
        job = await trial.started(storage)
        now = T0 + SECOND

        accepted, answer = await _cancel_while_settling(
            schedule, job, outcome, (storage, schedule.rng.choice([storage, second])), now
        )

        ended = JobStatus.SUCCEEDED if isinstance(outcome, Succeeded) else JobStatus.FAILED
        record = await _record(trial, storage, job.tracking_id)
        trial.check.true(
            (accepted, answer, record.status)
            in {
                (True, Cancellation.ALREADY_COMPLETE, ended),
                (False, Cancellation.CANCELLED, JobStatus.CANCELLED),
            },
            "a job that is settled and cancelled at the same time has one outcome, and both answers agree with it",
            expected=f"accepted, ALREADY_COMPLETE, {ended}; or refused, CANCELLED, cancelled",
            seen=f"{'accepted' if accepted else 'refused'}, {answer.name}, {record.status}",
        )
        if record.status is JobStatus.CANCELLED:
            expected = evolve(job, status=JobStatus.CANCELLED, finished_at=now)
        elif isinstance(outcome, Succeeded):
            expected = evolve(job, status=ended, finished_at=now, result=outcome.result)
        else:
            expected = evolve(job, status=ended, finished_at=now, errors=(failed().error,))
        trial.check.equal(record, expected, "the loser of a cancel and a settlement has written nothing")


@rule("R66")
async def a_cancelled_job_never_returns_to_pending(trial: Trial) -> None:
    """While a job is given back for a retry it is cancelled: it ends CANCELLED whichever came first."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(60):
        outcome = schedule.rng.choice(RETURNS)
        job = await trial.started(storage)

        accepted, answer = await _cancel_while_settling(
            schedule, job, outcome, (storage, schedule.rng.choice([storage, second])), T0 + SECOND
        )

        trial.check.equal(answer, Cancellation.CANCELLED, "cancelling a job that is being retried")
        record = await _record(trial, storage, job.tracking_id)
        trial.check.equal(
            (record.status, record.finished_at),
            (JobStatus.CANCELLED, T0 + SECOND),
            "a job that was cancelled while it was retried is CANCELLED",
        )
        trial.check.equal(
            len(record.errors),
            int(accepted and not isinstance(outcome, Release)),
            "the retry's error is noted if, and only if, the retry was accepted",
        )
        taken = await acts.claimed_ids(storage, job.queue_id, now=T0 + DAY)
        trial.check.equal(taken, [], "a job that was cancelled while it was retried is claimed no more")


@rule("R67")
async def a_cancelled_job_whose_holder_dies_is_not_run_again(trial: Trial) -> None:
    """A job is cancelled while it runs, and its holder is never heard of again: no claim and no purge revives it."""
    storage = await trial.open()
    job = await trial.started(storage, full_job(trial.tracking_id(), trial.queue()), now=T0 + 2 * SECOND)
    await acts.cancelled(storage, job, now=T0 + 3 * SECOND)
    ended = evolve(job, status=JobStatus.CANCELLED, finished_at=T0 + 3 * SECOND)

    for now in (job.dequeue_after - trial.tick, job.dequeue_after, job.dequeue_after + SECOND, T0 + DAY):
        taken = await acts.claim(storage, job.queue_id, now=now, worker="another")
        trial.check.equal(taken, [], f"a job that was cancelled while it ran is not claimed at {now}")
        await acts.purge(storage, now=now)
        trial.check.equal(
            await storage.get_job(job.tracking_id), ended, "the record of a job that was cancelled while it ran"
        )
