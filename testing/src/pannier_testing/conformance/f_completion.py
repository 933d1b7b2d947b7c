"""Section F: what is over stays over, and is over once."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final, assert_never

from attrs import evolve

from pannier.inspection import Requeue
from pannier.records import COMPLETE, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, failed, full_job, ids_of, retry
from pannier_testing.line_steps import Search
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of, results_of

HOUR: Final = 60 * MINUTE


@rule("R48")
async def what_has_ended_stays_so(trial: Trial) -> None:
    """A complete job stays as it is after its old lease's end, through claims, renewals, settlements and cancels."""
    storage = await trial.open()
    for status in sorted(COMPLETE):
        job = await trial.brought_to(storage, status)
        lease = Lease(job.tracking_id, max(job.fence, 1))
        for now in (T0 + MINUTE, T0 + 2 * MINUTE + LEASE, T0 + 99 * HOUR):
            taken = await trial.drain(storage, job.queue_id, now=now)
            trial.check.equal(taken, [], f"a {status} job is claimed no more")
            await storage.renew_leases([lease], now=now, lease_for=LEASE)
            await storage.settle_jobs([Settlement(lease, Release())], now=now)
            await storage.settle_jobs([Settlement(lease, retry(now, at=now))], now=now)
            await storage.cancel_job(job.tracking_id, now=now)
            await acts.purge(storage, now=now)
            trial.check.equal(await trial.read(storage, job), [job], f"a {status} job stays as it ended")


@rule("R48", needs=frozenset({Need.DURABLE}))
async def what_has_ended_stays_so_after_a_reopen(trial: Trial) -> None:
    """A complete job is the same, and over, for an instance that is opened later."""
    storage = await trial.open()
    ended = [await trial.brought_to(storage, status) for status in sorted(COMPLETE)]
    await storage.close()

    later = await trial.open()

    trial.check.equal(await trial.read(later, *ended), ended, "a complete job is the same after a reopen")
    taken = await trial.drain(later, *(job.queue_id for job in ended), now=T0 + HOUR)
    trial.check.equal(taken, [], "a complete job is claimed no more after a reopen")


@rule("R48", needs=frozenset({Need.INSPECT}))
async def a_requeue_alone_begins_again(trial: Trial) -> None:
    """A job that ended without success is claimable again once it was requeued, a successful one never."""
    storage = await trial.open()
    for status in sorted(COMPLETE):
        job = await trial.brought_to(storage, status)
        answer = await inspector_of(storage).requeue_job(job.tracking_id, now=T0 + HOUR, expire_on=None)
        is_over = status is JobStatus.SUCCEEDED
        expected = Requeue.ALREADY_SUCCEEDED if is_over else Requeue.REQUEUED
        trial.check.equal(answer, expected, f"a requeue of a {status} job")
        taken = await trial.drain(storage, job.queue_id, now=T0 + HOUR)
        trial.check.equal(ids_of(taken), [] if is_over else [job.tracking_id], f"a {status} job after a requeue")


@rule("R49", needs=frozenset({Need.DURABLE}))
async def a_killed_settlement_leaves_status_and_result_together(trial: Trial) -> None:
    """Killed at any line of the settlement, a job is RUNNING without its result or SUCCEEDED with it."""
    stepper, search = await trial.open_stepper(), Search("settle a job with a result", 0)
    while search.is_open:
        async with trial.another_place() as url:  # in a store that holds nothing else a line is always the same one
            storage = await trial.open(url)
            job = await trial.started(storage)
            await results_of(storage).store_progress(job.lease, Payload("half"))
            settlements = [Settlement(job.lease, Succeeded(Payload({"big": "x" * 5_000})))]
            if not search.lines:
                lines = (await stepper.call(url, "settle_jobs", settlements=settlements, now=T0)).lines
                search = Search(search.name, lines or 1)
            else:
                point = search.next_line(trial)
                await stepper.call(url, "settle_jobs", die_at=point, settlements=settlements, now=T0)
                search.learn(point, is_done=await settled_whole(trial, storage, settlements, point))
            await storage.close()


async def settled_whole(
    trial: Trial, storage: JobStorageProvider, settlements: Sequence[Settlement], point: int
) -> bool:
    """See that the settlement that was killed was made whole or not at all; return whether it was made."""
    (settlement,) = settlements
    assert isinstance(settlement.outcome, Succeeded)
    seen = await results_of(storage).get_job_result(settlement.lease.tracking_id)
    assert seen is not None
    whole = [(JobStatus.RUNNING, None, Payload("half")), (JobStatus.SUCCEEDED, settlement.outcome.result, None)]
    trial.check.true(
        (seen.status, seen.result, seen.progress) in whole,
        f"status, result and progress change together, also where a kill hits line {point}",
        expected="RUNNING with its progress and no result, or SUCCEEDED with the result and no progress",
        seen=(seen.status, seen.result, seen.progress),
    )
    refused = await storage.settle_jobs(settlements, now=T0)
    trial.check.equal(refused, frozenset(), "the settlement that was killed can be repeated")
    return seen.status is JobStatus.SUCCEEDED


async def watched(storage: JobStorageProvider, job: JobRecord) -> list[tuple[JobStatus, Payload | None]]:
    """Look at the status and result of *job* four times."""
    seen: list[tuple[JobStatus, Payload | None]] = []
    for _ in range(4):
        found = await results_of(storage).get_job_result(job.tracking_id)
        assert found is not None
        seen.append((found.status, found.result))
        await asyncio.sleep(0)
    return seen


@rule("R49")
async def no_reader_sees_success_without_its_result(trial: Trial) -> None:
    """Whoever looks while a job is settled sees it RUNNING, or SUCCEEDED with its result."""
    storage, other = await trial.open(), await trial.open()
    for schedule in trial.schedules(10):
        job = await trial.started(storage)
        settlement = Settlement(job.lease, Succeeded(Payload("done")))
        calls = [watched(other, job), storage.settle_jobs([settlement], now=T0)]
        seen, _ = await schedule.jittered(*calls)

        whole = [(JobStatus.RUNNING, None), (JobStatus.SUCCEEDED, Payload("done"))]
        torn = [state for state in seen if state not in whole]
        trial.check.equal(torn, [], "a reader sees status and result change together")
        result = await results_of(other).get_job_result(job.tracking_id)
        trial.check.equal(result and result.result, Payload("done"), "a job that succeeded has its result")


ENDS: Final = T0 + HOUR
OUTCOMES: Final[dict[str, tuple[Outcome, JobStatus]]] = {
    "Succeeded": (Succeeded(), JobStatus.SUCCEEDED),
    "Succeeded(result)": (Succeeded(Payload("result")), JobStatus.SUCCEEDED),
    "Succeeded(other)": (Succeeded(Payload("other")), JobStatus.SUCCEEDED),
    "Failed": (failed(), JobStatus.FAILED),
    "Failed later": (failed(T0 + SECOND), JobStatus.FAILED),
    "Retry": (retry(T0 + MINUTE), JobStatus.PENDING),
    "Retry at once": (retry(T0), JobStatus.PENDING),
    "Retry past the expiry": (retry(ENDS), JobStatus.FAILED),
    "Release": (Release(), JobStatus.PENDING),
}


@rule("R50")
async def a_repeated_settlement_is_accepted_and_changes_nothing(trial: Trial) -> None:
    """The same fence settled twice: accepted if it leads to the status already there, else refused; nothing changes."""
    storage, other = await trial.open(), await trial.open()
    for first, (outcome, status) in OUTCOMES.items():
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=ENDS))
        await acts.must_settle(trial.check, storage, job, outcome)
        (before,) = await trial.read(storage, job)
        trial.check.equal(before.status, status, f"{first} leads to {status}")
        for second, (again, leads_to) in OUTCOMES.items():
            refused = await other.settle_jobs([Settlement(job.lease, again)], now=T0 + SECOND)
            expected = frozenset() if leads_to is status else frozenset([job.lease])
            word = "accepted, as a repeat" if leads_to is status else "refused"
            trial.check.equal(refused, expected, f"after {first}, {second} under the same fence is {word}")
            trial.check.equal(await trial.read(storage, job), [before], f"after {first}, {second} changes nothing")


@rule("R50")
async def a_batch_whose_answer_was_lost_can_be_repeated(trial: Trial) -> None:
    """A batch of settlements is applied once, however often it is sent, also together with new ones."""
    storage = await trial.open()
    jobs = [await trial.started(storage, trial.job(trial.queue(), expire_on=ENDS)) for _ in OUTCOMES]
    batch = [Settlement(job.lease, outcome) for job, (outcome, _) in zip(jobs, OUTCOMES.values(), strict=True)]
    half = len(batch) // 2

    first = await storage.settle_jobs(batch[:half], now=T0)
    before = await trial.read(storage, *jobs[:half])
    second = await storage.settle_jobs(batch, now=T0 + SECOND)
    whole = await trial.read(storage, *jobs)
    third = await storage.settle_jobs(batch, now=T0 + MINUTE)

    trial.check.equal([first, second, third], [frozenset[Lease]()] * 3, "a repeated batch is accepted")
    trial.check.equal(whole[:half], before, "what was applied before is not applied again")
    trial.check.equal(await trial.read(storage, *jobs), whole, "and a repeat changes nothing")


async def unsettleable(trial: Trial, storage: JobStorageProvider) -> list[tuple[str, Lease, JobRecord | None]]:
    """Return leases that no settlement may be applied under: of what, the lease, and the job as it stands."""
    purged = await trial.brought_to(storage, JobStatus.SUCCEEDED)
    await acts.purge(storage, JobStatus.SUCCEEDED, now=T0, queue_ids=frozenset([purged.queue_id]))
    waiting = await trial.brought_to(storage, JobStatus.PENDING)
    scheduled = trial.job(trial.queue(), execute_after=T0 + HOUR)
    await storage.store_jobs([scheduled])
    cancelled_waiting = await trial.brought_to(storage, JobStatus.CANCELLED)
    running = await trial.started(storage)
    await storage.cancel_job(running.tracking_id, now=T0)
    (cancelled,) = await trial.read(storage, running)
    expired = await trial.brought_to(storage, JobStatus.EXPIRED)
    lapsed = await trial.started(storage, trial.job(trial.queue(), expire_on=T0 + SECOND))
    await acts.purge(storage, now=T0 + LEASE, queue_ids=frozenset([lapsed.queue_id]))
    (expired_running,) = await trial.read(storage, lapsed)
    released = await trial.started(storage)
    await acts.must_settle(trial.check, storage, released, Release())
    (released,) = await trial.read(storage, released)
    done = await trial.brought_to(storage, JobStatus.SUCCEEDED)
    fail = await trial.brought_to(storage, JobStatus.FAILED)
    return [
        ("a job that was never stored", Lease(trial.tracking_id(), 1), None),
        ("a purged job", purged.lease, None),
        ("a job that was never claimed", Lease(waiting.tracking_id, 1), waiting),
        ("a scheduled job", Lease(scheduled.tracking_id, 1), scheduled),
        ("a job cancelled while it waited", Lease(cancelled_waiting.tracking_id, 1), cancelled_waiting),
        ("a job cancelled while it ran", running.lease, cancelled),
        ("a job that expired while it waited", Lease(expired.tracking_id, 1), expired),
        ("a job that expired after its lease lapsed", lapsed.lease, expired_running),
        ("a pending job, under a later fence", evolve(released.lease, fence=2), released),
        ("a successful job, under a later fence", evolve(done.lease, fence=2), done),
        ("a failed job, under a later fence", evolve(fail.lease, fence=9), fail),
    ]


@rule("R51")
async def what_is_not_held_cannot_be_settled(trial: Trial) -> None:
    """Settling what is unknown, purged, cancelled, expired, never claimed or under another fence is refused."""
    storage = await trial.open()
    table = await unsettleable(trial, storage)
    for name, (outcome, _) in OUTCOMES.items():
        for about, lease, before in table:
            refused = await trial.check.answers(
                storage.settle_jobs([Settlement(lease, outcome)], now=T0 + 2 * MINUTE), f"settling {about} is answered"
            )
            trial.check.equal(refused, frozenset([lease]), f"{name} of {about} is refused")
            trial.check.equal(await storage.get_job(lease.tracking_id), before, f"{name} of {about} changes nothing")
    batch = [Settlement(lease, Succeeded()) for _, lease, _ in table]
    refused = await storage.settle_jobs(batch, now=T0 + 2 * MINUTE)
    trial.check.counts(refused, (lease for _, lease, _ in table), "all of them are refused in one batch, too")


@rule("R51", needs=frozenset({Need.INSPECT}))
async def a_requeued_job_cannot_be_settled_by_its_old_holder(trial: Trial) -> None:
    """After a requeue every settlement under the old fence is refused: while the job waits, runs, and has ended."""
    storage = await trial.open()
    for name, (outcome, _) in OUTCOMES.items():
        old = await trial.started(storage)
        await acts.must_settle(trial.check, storage, old, failed())
        await inspector_of(storage).requeue_job(old.tracking_id, now=T0, expire_on=None)
        for stage in ("it waits", "it runs", "it has failed again"):
            (before,) = await trial.read(storage, old)
            refused = await storage.settle_jobs([Settlement(old.lease, outcome)], now=T0)
            trial.check.equal(refused, frozenset([old.lease]), f"{name} from before a requeue is refused while {stage}")
            trial.check.equal(await trial.read(storage, old), [before], "and changes nothing")
            for new in await acts.claim(storage, old.queue_id):
                before = new
            if stage == "it runs":
                await acts.must_settle(trial.check, storage, before, failed())


@rule("R52")
async def a_settlement_writes_its_own_fields_only(trial: Trial) -> None:
    """Each outcome changes what it is about, and leaves every other field as it was."""
    storage, now = await trial.open(), T0 + MINUTE + SECOND
    for outcome in (Succeeded(), Succeeded(Payload("result")), failed(), retry(T0 + HOUR / 2), Release()):
        full = full_job(trial.tracking_id(), trial.queue())
        lapsed = await trial.started(storage, full, now=full.execute_after)
        (lapsed,) = await acts.claim(storage, lapsed.queue_id, now=T0 + MINUTE, worker="worker-2")
        for job in (lapsed, await acts.tried_twice(trial, storage)):
            neighbour = await trial.started(storage)

            await acts.must_settle(trial.check, storage, job, outcome, now=now)

            expected = as_settled(job, outcome, now)
            name = type(outcome).__name__
            trial.check.equal(await trial.read(storage, job), [expected], f"{name} writes its own fields only")
            trial.check.equal(await trial.read(storage, neighbour), [neighbour], "and touches no other job")


def as_settled(job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
    """Return the running *job*, which lapsed once, as *outcome* leaves it."""
    waiting = evolve(job, status=JobStatus.PENDING, worker_id=None)
    match outcome:
        case Succeeded(result=result):
            good = evolve(job, lapses=0, progress=None)
            return evolve(good, status=JobStatus.SUCCEEDED, result=result, finished_at=now)
        case Release():
            return evolve(waiting, attempt=job.attempt - 1, dequeue_after=job.execute_after)
        case Retry(at=at, error=error):
            again = evolve(waiting, attempt=job.attempt - 1, lapses=0, dequeue_after=at)
            return evolve(again, errors=(*job.errors, error))
        case Failed(error=error):
            bad = evolve(job, lapses=0, errors=(*job.errors, error))
            return evolve(bad, status=JobStatus.FAILED, finished_at=now)
        case _:
            assert_never(outcome)


@rule("R52")
async def settling_and_taking_over_agree(trial: Trial) -> None:
    """At the end of a lease its holder settles while another claims: exactly one wins, and both answers say so."""
    storage, other = await trial.open(), await trial.open()
    now, again = T0 + LEASE, retry(T0 + HOUR)
    choices: tuple[Outcome, ...] = (Succeeded(), Succeeded(Payload("late")), failed(), again, Release())
    for schedule in trial.schedules(20):
        outcome = schedule.rng.choice(choices)
        job = await trial.started(storage)

        calls = [
            storage.settle_jobs([Settlement(job.lease, outcome)], now=now),
            claimed_leases(other, job, now),
        ]
        refused, leases = await schedule.jittered(*calls)
        leases |= await claimed_leases(other, job, now)  # contended claims may come back short

        (after,) = await trial.read(storage, job)
        seen = (after.status, after.fence, after.attempt, after.lapses)
        second = frozenset([Lease(job.tracking_id, 2)])
        if refused:
            trial.check.equal(leases, second, "where the settlement is refused the claim takes the job, once")
            trial.check.equal(seen, (JobStatus.RUNNING, 2, 2, 1), "and the job stands as it was taken over")
        elif isinstance(outcome, Release):
            trial.check.equal(leases, second, "where a release wins the claim takes the job after it, once")
            trial.check.equal(seen, (JobStatus.RUNNING, 2, 1, 0), "and the job stands as it was claimed after it")
        else:
            trial.check.equal(leases, frozenset[Lease](), "where the settlement wins the claim takes nothing")
            status = OUTCOME_STATUS[type(outcome)]
            trial.check.equal(seen, (status, 1, 1, 0), "and the job stands as it was settled")


OUTCOME_STATUS: Final[dict[type[Outcome], JobStatus]] = {
    Succeeded: JobStatus.SUCCEEDED,
    Failed: JobStatus.FAILED,
    Retry: JobStatus.PENDING,
}


async def claimed_leases(storage: JobStorageProvider, job: JobRecord, now: datetime) -> frozenset[Lease]:
    """Claim from the queue of *job*, and return the leases."""
    return frozenset(taken.lease for taken in await acts.claim(storage, job.queue_id, now=now, worker="worker-2"))
