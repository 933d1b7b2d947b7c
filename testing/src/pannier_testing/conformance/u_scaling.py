"""Section U: what a verb costs does not depend on how many jobs there are."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Final

from attrs import frozen

from pannier.purging import StaleJobs
from pannier.records import COMPLETE, JobRecord
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import MINUTE, SECOND, T0, claim_of
from pannier_testing.rules import rule
from pannier_testing.trial import Trial

NOW: Final = T0 + 2 * MINUTE
"""When everything is measured."""

AT_MOST: Final = 3.0
"""How much dearer a verb may be with a hundred times the jobs."""

MEASURED: Final = 21
"""How often a verb is measured on each of the two stores, in turns."""

LOOKS: Final = 6
"""How often two stores are compared before the larger one counts as dearer."""

PORTION: Final = 1000
"""How many jobs are stored, settled or purged in one call."""

CLAIMED: Final = 250
"""How many jobs are claimed in one call: as many as one worker may well have slots."""

DEADLINE: Final = timedelta(seconds=360)
"""Loading seven backlogs takes a slow server a while, and a busy machine longer."""


Load = Callable[[Trial, JobStorageProvider, str, int], Awaitable[None]]
Verb = Callable[[], Awaitable[object]]


@frozen
class Store:
    """One of the two stores that are compared: the storage, and the queue that is worked on."""

    storage: JobStorageProvider
    queue_id: str


async def stored(storage: JobStorageProvider, jobs: Sequence[JobRecord]) -> None:
    """Store many jobs, a portion at a time."""
    for first in range(0, len(jobs), PORTION):
        await storage.store_jobs(jobs[first : first + PORTION])


async def waiting(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Let jobs wait that are due."""
    await stored(storage, trial.jobs(count, queue_id))


async def scheduled_before_all(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Schedule jobs for later at the highest priority."""
    await stored(storage, trial.jobs(count, queue_id, execute_after=NOW + 60 * MINUTE, priority=100))


async def scheduled_at_all_priorities(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Schedule jobs for later over 200 priorities, all of them in use: how many there are is no matter of scale."""
    later = NOW + 60 * MINUTE
    jobs = [trial.job(queue_id, execute_after=later, priority=number % 200 - 99) for number in range(max(count, 200))]
    await stored(storage, jobs)


async def leased(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Let jobs run under leases that live on."""
    await waiting(trial, storage, queue_id, count)
    await trial.drain(storage, queue_id, limit=CLAIMED, lease_for=timedelta(hours=1))


async def finished(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Let jobs have succeeded."""
    await waiting(trial, storage, queue_id, count)
    for job_portion in _portions(await trial.drain(storage, queue_id, limit=CLAIMED)):
        await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in job_portion], now=T0)


async def expired_and_purged(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Let jobs have expired, and a purge have marked them."""
    await stored(storage, trial.jobs(count, queue_id, expire_on=T0 + MINUTE))
    stale = StaleJobs(now=NOW, keep=dict.fromkeys(COMPLETE, timedelta(days=1)), limit=PORTION)
    while (await storage.purge_stale_jobs(stale)).expired:
        pass


async def expired_and_claimed_past(trial: Trial, storage: JobStorageProvider, queue_id: str, count: int) -> None:
    """Let jobs have expired that claims, and no purge, come past."""
    await stored(storage, trial.jobs(count, queue_id, expire_on=T0 + MINUTE))
    for _ in range(count // PORTION + 20):
        await storage.claim_jobs(claim_of(queue_id, limit=1, now=NOW))


BACKLOGS: Final[dict[str, Load]] = {
    "jobs that are due": waiting,
    "jobs scheduled for later at the highest priority": scheduled_before_all,
    "jobs scheduled for later over 200 priorities": scheduled_at_all_priorities,
    "live leases": leased,
    "finished jobs": finished,
    "expired jobs that a purge has marked": expired_and_purged,
    "expired jobs that claims came past": expired_and_claimed_past,
}

MERELY_STORED: Final = (waiting, scheduled_before_all, scheduled_at_all_priorities)
"""The loads that only store jobs, a portion at a time."""


@rule("R119", deadline=DEADLINE)
async def a_claim_costs_the_same_with_a_hundred_times_the_jobs(trial: Trial) -> None:
    """Whatever waits, is scheduled, leased, finished or expired: the median claim is at most three times as dear."""
    for backlog, load in BACKLOGS.items():
        async with AsyncExitStack() as places:
            stores = await _two_stores(trial, places, load, due=20_000)
            for store in stores:
                await store.storage.store_jobs(trial.jobs(LOOKS * MEASURED, store.queue_id))
            await _compare(trial, f"a claim beside {backlog}", [partial(_claim_one, store) for store in stores])


@rule("R120", deadline=DEADLINE)
async def a_job_is_found_by_its_id_whatever_else_there_is(trial: Trial) -> None:
    """get_job, settle_jobs, cancel_job and store_jobs are at most three times as dear with a hundred times the jobs."""
    async with AsyncExitStack() as places:
        stores = await _two_stores(trial, places, waiting)
        beside = [await _some_jobs(trial, store, LOOKS * MEASURED) for store in stores]
        held = [await trial.drain(store.storage, "held", limit=PORTION) for store in stores]
        verbs: dict[str, list[Verb]] = {
            "get_job": [partial(_get, store, list(jobs)) for store, jobs in zip(stores, beside, strict=True)],
            "settle_jobs": [partial(_settle, store, jobs) for store, jobs in zip(stores, held, strict=True)],
            "cancel_job": [partial(_cancel, store, list(jobs)) for store, jobs in zip(stores, beside, strict=True)],
            "store_jobs": [partial(_store, trial, store) for store in stores],
        }
        for verb, both in verbs.items():
            await _compare(trial, f"{verb} beside jobs that are due", both)


def _larger(trial: Trial, load: Load, due: int) -> int:
    """
    Return how many jobs the larger store has.

    The quick profile loads few, which tell a scan from a look. But an engine sorts 5,000 of its own rows while it
    commits a claim, and it takes more of those that are due, *due*, to see that their order is not kept. Where storing
    alone makes the backlog, that is cheap on every storage. Where each job must be claimed, too, or purged, a slow
    storage takes 2,000: on MongoDB's stand-in, at 1.5 ms a job, a claim by scanning was 8 to 26 times as dear then.
    """
    if trial.is_thorough:
        return trial.sized("jobs of the larger store", 50_000, least=5_000, seconds=10.0)
    if load is waiting:
        return trial.sized("due jobs of the larger store", due, least=5_000, seconds=3.0)
    if load in MERELY_STORED:
        return trial.sized("jobs of the larger store", 5_000, least=5_000)
    return trial.sized("jobs of the larger store that were worked on", 5_000, least=2_000, seconds=3.0)


async def _two_stores(trial: Trial, places: AsyncExitStack, load: Load, *, due: int = 5_000) -> list[Store]:
    """Return a store with a hundredth of the jobs and one with all of them, each in a place of its own."""
    many = _larger(trial, load, due)
    stores = []
    for count in (many // 100, many):
        storage = await trial.open(await places.enter_async_context(trial.another_place()))
        queue_id = trial.queue()
        await load(trial, storage, queue_id, count)
        stores.append(Store(storage, queue_id))
    return stores


async def _some_jobs(trial: Trial, store: Store, count: int) -> list[JobRecord]:
    """Store jobs to be found by their ids, and as many to be held; return the former."""
    jobs = trial.jobs(count, "found")
    await store.storage.store_jobs([*jobs, *trial.jobs(count, "held")])
    return jobs


async def _compare(trial: Trial, what: str, both: Sequence[Verb]) -> None:
    """
    Check what the second verb costs against the first, which is the same on the smaller store.

    In turns, so that whatever else the machine does meets both. The best of several looks: another program can make
    one look dear by chance, and none can make it look cheap. A busy disk did so for three looks on end, when a commit
    on the larger store waited for it and one on the smaller store did not.
    """
    told: dict[float, str] = {}
    for _ in range(LOOKS):
        few, many = await _medians(both)
        told[many / few] = f"{few * 1000:.2f} ms on the smaller store, {many * 1000:.2f} ms on the larger one"
        if many / few <= AT_MOST:
            break
    best = min(told)
    sizes = ", ".join(f"{what}: {size}" for what, size in trial.sizes.items())
    trial.check.true(
        best <= AT_MOST,
        f"{what} costs at most {AT_MOST:.0f} times as much with a hundred times the jobs",
        expected=f"a median of at most {AT_MOST:.0f} times that of the smaller store",
        seen=f"{best:.1f} times, at best of {LOOKS} looks: {told[best]} ({sizes})",
    )


async def _medians(both: Sequence[Verb]) -> list[float]:
    took: list[list[float]] = [[] for _ in both]
    for _ in range(MEASURED):
        for times, verb in zip(took, both, strict=True):
            began = time.perf_counter()
            await verb()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in took]


async def _claim_one(store: Store) -> None:
    await store.storage.claim_jobs(claim_of(store.queue_id, limit=1, now=NOW))


async def _get(store: Store, jobs: list[JobRecord]) -> None:
    await store.storage.get_job(jobs[0].tracking_id)


async def _settle(store: Store, held: list[JobRecord]) -> None:
    await store.storage.settle_jobs([Settlement(held.pop().lease, Succeeded())], now=T0 + SECOND)


async def _cancel(store: Store, jobs: list[JobRecord]) -> None:
    await store.storage.cancel_job(jobs.pop().tracking_id, now=NOW)


async def _store(trial: Trial, store: Store) -> None:
    """Store one job: with more, the smaller store would be a large one before the last look."""
    await store.storage.store_jobs(trial.jobs(1, store.queue_id))


def _portions(jobs: Sequence[JobRecord]) -> list[Sequence[JobRecord]]:
    return [jobs[first : first + PORTION] for first in range(0, len(jobs), PORTION)]
