"""Section V: calls that are awaited at the same time may share a transaction, and nobody can tell."""

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import product
from typing import Final, TypeVar

from attrs import evolve, frozen

from pannier.errors import UnstorableError
from pannier.records import JobRecord, JobStatus, Json, Lease, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, claim_of, failed, ids_of, retry
from pannier_testing.conformance.p_payloads import nested_lists
from pannier_testing.jitter import Schedule
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, transactional

T = TypeVar("T")

DEEP: Final = Payload(nested_lists(10_000))
"""What most storages can't hold."""


@frozen
class Refused:
    """A call's answer: it was refused with *error*."""

    error: UnstorableError | ValueError


async def outcome_of(call: Awaitable[T]) -> T | Refused:
    """Await *call*; a refusal is an answer, too."""
    try:
        return await call
    except (UnstorableError, ValueError) as error:
        return Refused(error)


@rule("R122")
async def a_bad_call_fails_alone(trial: Trial) -> None:
    """Good calls, awaited beside some that are refused, answer as they would alone, in any order of events."""
    storage = await trial.open()
    for schedule in trial.schedules():
        good = [trial.job(trial.queue(), key=f"key {schedule.rng.random()}"), *trial.jobs(2, trial.queue())]
        deep = evolve(trial.job(), command=DEEP)
        not_new = evolve(trial.job(), attempt=1)
        started, hopeless = [await trial.started(storage) for _ in range(2)]
        stores = [outcome_of(storage.store_jobs([job])) for job in (*good, deep, not_new)]
        settles = [
            outcome_of(storage.settle_jobs([Settlement(started.lease, failed())], now=T0)),
            outcome_of(storage.settle_jobs([Settlement(hopeless.lease, Succeeded(DEEP))], now=T0)),
        ]

        stored, settled = await trial.check.answers(
            _all_at_once(schedule, stores, settles), "calls that share a transaction answer, or are refused"
        )

        beside = "beside calls that are refused"
        for job, answer in zip(good, stored, strict=False):
            trial.check.equal(answer, [job.tracking_id], f"a job that can be stored is stored, {beside}")
        _check_own(trial, stored[3], deep, "a job that can't be held")
        trial.check.true(
            isinstance(stored[4], Refused) and isinstance(stored[4].error, ValueError),
            "a job that is not new is a ValueError of its own call",
            expected="ValueError",
            seen=stored[4],
        )
        trial.check.equal(settled[0], frozenset(), f"a settlement that can be applied is applied, {beside}")
        _check_own(trial, settled[1], hopeless, "a settlement that can't be held")
        for job, seen in zip(good, await trial.read(storage, *good), strict=True):
            trial.check.equal(seen, trial.as_stored(job), f"a job that was stored {beside}")
        (ended,) = await trial.read(storage, started)
        trial.check.equal(ended.status, JobStatus.FAILED, f"a job that was settled {beside}")


async def _all_at_once(
    schedule: Schedule, stores: Sequence[Awaitable[object]], settles: Sequence[Awaitable[object]]
) -> tuple[list[object], list[object]]:
    """Await all calls at the same time, in an order that the schedule decides; return the answers in theirs."""
    calls = [*stores, *settles]
    order = schedule.rng.sample(range(len(calls)), len(calls))
    answers = dict(zip(order, await schedule.jittered(*(calls[place] for place in order)), strict=True))
    listed = [answers[place] for place in range(len(calls))]
    return listed[: len(stores)], listed[len(stores) :]


def _check_own(trial: Trial, answer: object, job: JobRecord, which: str) -> None:
    """Check that a refusal names *job*."""
    if isinstance(answer, Refused):
        named = getattr(answer.error, "tracking_id", None)
        trial.check.equal(named, job.tracking_id, f"the refusal of {which} names its own job")


@rule("R122")
async def a_cancelled_call_takes_nobody_along(trial: Trial) -> None:
    """Of calls that are awaited at the same time one is cancelled: the others answer as they would without it."""
    storage = await trial.open()
    for turns, place in product(range(trial.scaled(5)), (0, 2, 4, 5, 7)):
        jobs = trial.jobs(5, trial.queue())
        started = [await trial.started(storage) for _ in range(3)]
        calls: list[asyncio.Task[object]] = [asyncio.ensure_future(storage.store_jobs([job])) for job in jobs]
        calls += [
            asyncio.ensure_future(storage.settle_jobs([Settlement(job.lease, Succeeded())], now=T0)) for job in started
        ]
        victim = calls[place]
        for _ in range(turns):
            await asyncio.sleep(0)
        victim.cancel()

        everything = asyncio.gather(*calls, return_exceptions=True)
        answers = await trial.check.answers(everything, "when one call is cancelled, the others come to an end")

        expected: list[object] = [[job.tracking_id] for job in jobs] + [frozenset[Lease]()] * len(started)
        for call, answer, right in zip(calls, answers, expected, strict=True):
            if call is not victim:
                trial.check.equal(answer, right, "the answer of a call, when another one is cancelled")
        repeats = await storage.store_jobs(jobs)
        trial.check.equal(repeats, ids_of(jobs), "after a cancellation, storing all again stores what is missing")
        refused = await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in started], now=T0)
        trial.check.equal(refused, frozenset(), "after a cancellation, settling all again settles what is missing")


@rule("R122")
async def each_call_gets_what_it_asked_for_itself(trial: Trial) -> None:
    """Calls at the same time by several workers, at their own times: each has its own worker, times and lengths."""
    storage = await trial.open()
    for schedule in trial.schedules(8):
        queue = trial.queue()
        await storage.store_jobs(trial.jobs(3, queue))
        nows = [T0 + n * SECOND for n in range(3)]
        claims = [
            acts.claim(storage, queue, now=now, limit=1, worker=f"worker-{n}", lease_for=(n + 1) * MINUTE)
            for n, now in enumerate(nows)
        ]
        for n, taken in enumerate(await schedule.jittered(*claims)):
            seen = [(job.worker_id, job.dequeue_after) for job in taken]  # none: contended claims may come back short
            own = [(f"worker-{n}", nows[n] + (n + 1) * MINUTE)] * len(taken)
            trial.check.equal(seen, own, "a claim beside others is for its own worker, until its own end")

        held = [await trial.started(storage) for _ in nows]
        renewals = [
            acts.renew(storage, job, now=now, lease_for=(n + 5) * MINUTE)
            for n, (job, now) in enumerate(zip(held, nows, strict=True))
        ]
        trial.check.equal(await schedule.jittered(*renewals), [True] * 3, "leases that stand are renewed")
        ends = [job.dequeue_after for job in await trial.read(storage, *held)]
        expected = [now + (n + 5) * MINUTE for n, now in enumerate(nows)]
        trial.check.equal(ends, expected, "a renewal beside others is as long as it asks, from its own now")

        settles = [
            acts.settle(storage, job, Succeeded(), now=now + MINUTE) for job, now in zip(held, nows, strict=True)
        ]
        trial.check.equal(await schedule.jittered(*settles), [True] * 3, "leases that stand are settled")
        ended = [job.finished_at for job in await trial.read(storage, *held)]
        trial.check.equal(ended, [now + MINUTE for now in nows], "a settlement beside others has its own now")


@rule("R122")
async def what_is_settled_beside_a_claim_is_not_claimed(trial: Trial) -> None:
    """Lapsed leases are settled while a claim is made: each is settled or taken over, and both only if due again."""
    storage = await trial.open()
    outcomes: tuple[Outcome, ...] = (Succeeded(), failed(T0 + LEASE), Release(), retry(T0 + 2 * LEASE, at=T0 + LEASE))
    for schedule in trial.schedules():
        for outcome in outcomes:
            queue = trial.queue()
            await storage.store_jobs(trial.jobs(3, queue))
            lapsed = await acts.claim(storage, queue)
            settlements = [Settlement(job.lease, outcome) for job in lapsed]
            later = claim_of(queue, limit=3, now=T0 + LEASE, worker="another")

            refused, claimed = await schedule.raced(
                storage.settle_jobs(settlements, now=T0 + LEASE), storage.claim_jobs(later)
            )

            taken = {job.tracking_id: job for job in claimed.jobs}
            for job, seen in zip(lapsed, await trial.read(storage, *lapsed), strict=True):
                _check_one_after_another(
                    trial, outcome, job, seen, taken=taken.get(job.tracking_id), is_settled=job.lease not in refused
                )


def _check_one_after_another(
    trial: Trial, outcome: Outcome, job: JobRecord, seen: JobRecord, *, taken: JobRecord | None, is_settled: bool
) -> None:
    """Check that what became of *job* is what one of the two orders of settling and claiming leads to."""
    kind = type(outcome).__name__
    if taken is None:
        trial.check.true(
            is_settled, f"a lapsed lease that no claim took can be settled as {kind}", expected="it", seen="refused"
        )
        return
    trial.check.equal(seen, taken, "what a claim took stands as it returned it")
    if not is_settled:
        trial.check.equal((taken.lapses, taken.attempt), (1, 2), "a claim that came first took the lapsed lease over")
        return
    trial.check.true(
        isinstance(outcome, Release),
        f"what is settled as {kind} is not handed out by a claim that is made at the same time",
        expected="settled or claimed",
        seen=f"its settlement was accepted, and the claim got fence {taken.fence}",
    )
    trial.check.equal((taken.lapses, taken.attempt), (0, job.attempt), "a claim that came second took a released job")


@rule("R122", needs=frozenset({Need.TRANSACTIONS}))
async def a_job_without_a_key_waits_for_no_key(trial: Trial) -> None:
    """While a caller's open transaction holds a key, jobs without one are stored, also beside one that waits for it."""
    storage = await trial.open()
    holder = trial.job(key="k")
    twin = trial.job(key="k")
    keyless = trial.jobs(5)
    waiting: list[asyncio.Task[list[object]]] = []
    try:
        async with trial.transaction() as transaction:
            await transactional(storage).store_jobs_in(transaction, [holder])
            waiting += [asyncio.ensure_future(_stored(storage, job)) for job in (twin, *keyless)]
            if not trial.offers(Need.SINGLE_WRITER):
                await trial.check.answers(
                    asyncio.gather(*(asyncio.shield(each) for each in waiting[1:])),
                    "a job without a key waits for no transaction that holds a key",
                )
        answers = await trial.check.answers(asyncio.gather(*waiting), "after the transaction nothing waits any more")
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    standing: list[object] = [holder.tracking_id, *ids_of(keyless)]
    trial.check.equal([id_ for answer in answers for id_ in answer], standing, "the ids that stand afterwards")


async def _stored(storage: JobStorageProvider, job: JobRecord) -> list[object]:
    return [*await storage.store_jobs([job])]


@rule("R123")
async def an_unstorable_settlement_is_refused_by_name(trial: Trial) -> None:
    """A batch with a result that can't be held is refused before anything is written; without it, it is applied."""
    storage = await trial.open()
    results: dict[str, Json | bytes] = {
        "a result of 10,000 lists in each other": DEEP.data,
        "a result with a lone surrogate": ["\ud800"],
        "a result with a NUL": ["a\0b"],
    }
    if trial.capabilities.max_payload is not None:
        results["a result over the declared size"] = b"x" * (trial.capabilities.max_payload + 1)
    for which, result in results.items():
        for place in range(3):
            jobs = [await trial.started(storage) for _ in range(3)]
            settlements = [
                Settlement(jobs[0].lease, Succeeded()),
                Settlement(jobs[1].lease, failed(T0 + SECOND)),
                Settlement(jobs[2].lease, retry(T0 + MINUTE, at=T0 + SECOND)),
            ]
            bad = await trial.started(storage)
            settlements.insert(place, Settlement(bad.lease, Succeeded(Payload(result))))
            await _check_refused_or_applied(trial, storage, settlements, place, which)


async def _check_refused_or_applied(
    trial: Trial, storage: JobStorageProvider, settlements: list[Settlement], place: int, which: str
) -> None:
    """Settle a batch that has *which* at *place*: refused, or applied with it; then the others are settled."""
    bad, rest = settlements[place], settlements[:place] + settlements[place + 1 :]
    before = [await storage.get_job(settlement.lease.tracking_id) for settlement in settlements]
    answer = await trial.check.answers(
        outcome_of(storage.settle_jobs(settlements, now=T0 + SECOND)), f"{which}: UnstorableError, or an answer"
    )
    if isinstance(answer, Refused):
        named = getattr(answer.error, "tracking_id", None)
        trial.check.equal(named, bad.lease.tracking_id, f"UnstorableError, which refuses {which}, names its job")
        after = [await storage.get_job(settlement.lease.tracking_id) for settlement in settlements]
        trial.check.equal(after, before, f"{which} is refused before anything of its batch is written")
        answer = await storage.settle_jobs(rest, now=T0 + SECOND)
        left = JobStatus.RUNNING
    else:
        left = JobStatus.SUCCEEDED
    trial.check.equal(answer, frozenset(), f"nothing is refused of a batch without {which}, or where it can be held")
    statuses = [None if job is None else job.status for job in [await _job(storage, each) for each in rest]]
    expected = [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.PENDING]
    trial.check.equal(statuses, expected, f"the rest of a batch that had {which} is applied")
    job = await _job(storage, bad)
    trial.check.equal(None if job is None else job.status, left, f"{which}: the job is settled, or still leased")
    if job is not None and left is JobStatus.SUCCEEDED and trial.offers(Need.RESULTS):
        trial.check.equal(Succeeded(job.result), bad.outcome, f"{which}, where it was accepted, is kept whole")


async def _job(storage: JobStorageProvider, settlement: Settlement) -> JobRecord | None:
    return await storage.get_job(settlement.lease.tracking_id)
