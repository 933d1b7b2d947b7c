"""
A trial: one test of one rule on one storage, in a place of its own. The only thing that a test function is given.

It opens instances (on this loop, on threads, in child processes) and closes them all, makes seeded jobs and schedules,
and sizes the work to the profile and to the speed of the storage.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from attrs import evolve, frozen
from hypothesis.strategies import SearchStrategy

from pannier.claims import Claim, Claimed
from pannier.instants import round_down, round_up
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Json, Lease
from pannier.settlements import Settlement, Succeeded
from pannier.storage import (
    Capabilities,
    JobInspector,
    JobNotifier,
    JobResultProvider,
    JobStorageProvider,
    TransactionalStorage,
)
from pannier.urls import StorageUrl
from pannier_testing import builders
from pannier_testing.builders import LEASE, QUEUE, T0, WORKER, ids_of
from pannier_testing.cancelling import Cut, cancel_everywhere
from pannier_testing.checks import BlockedError, Checks
from pannier_testing.fuzzing import examples_of
from pannier_testing.jitter import Overlap, Schedule
from pannier_testing.processes import Child, Nursery, Stepper, barrier
from pannier_testing.rules import Need, RuleTest
from pannier_testing.subject import Place, Subject
from pannier_testing.threads import OtherThread
from pannier_testing.values import Values

T = TypeVar("T")


class Profile(StrEnum):
    """How thoroughly: seconds, minutes, or a quarter of an hour and more."""

    QUICK = "quick"
    FULL = "full"
    SOAK = "soak"


@frozen(kw_only=True)
class Measured:
    """
    What a look at the storage showed before the first test.

    Attributes:
        offers: Every need that it meets.
        capabilities: What it declares.
        contract_version: The version of the contract that its adapter declares.
        jobs_per_second: How many jobs it stores, claims and settles in a second, in batches.
    """

    offers: frozenset[Need]
    capabilities: Capabilities
    contract_version: str
    jobs_per_second: float


class Trial:
    """
    What a test function works with.

    Attributes:
        check: The assertions.
        subject: The storage under test, with its test aids.
        place: The namespace of this trial.
        url: The storage's URL in it.
        rule: The rule that it is made for.
        rng: Decides everything random; seeded.
        values: The contract's value classes (rules of level V).
        sizes: The sizes that were chosen, by what they count; reported.
    """

    def __init__(
        self,
        test: RuleTest,
        subject: Subject,
        place: Place,
        *,
        measured: Measured,
        profile: Profile,
        seed: int,
        values: Values,
    ) -> None:
        self.check = Checks()
        self.subject = subject
        self.place = place
        self.url = subject.url_in(place)
        self.rule = test.rule
        self.rng = random.Random(f"{seed} {test.id}")
        self.profile = profile
        self.values = values
        self.overlap = Overlap()
        self.sizes: dict[str, int] = {}
        self._measured = measured
        self._cleanup = AsyncExitStack()
        self._queues = 0

    # Instances.

    @property
    def capabilities(self) -> Capabilities:
        """What the storage declares."""
        return self._measured.capabilities

    @property
    def tick(self) -> timedelta:
        """The storage's resolution of time: boundary instants lie one tick apart."""
        return self.capabilities.time_resolution

    def offers(self, need: Need) -> bool:
        """Whether the storage meets *need*."""
        return need in self._measured.offers

    async def open(self, url: str | None = None) -> JobStorageProvider:
        """Return a new opened instance on this loop, at this trial's URL or another one; it is closed at the end."""
        storage = self.create(url)
        await storage.open()
        return storage

    def create(self, url: str | None = None) -> JobStorageProvider:
        """Return a new instance that is not open yet; it is closed at the end."""
        storage = self.subject.create(url or self.url)
        self._cleanup.push_async_callback(_close, storage)
        return storage

    async def open_on_thread(self) -> OtherThread:
        """Return a new opened instance on a thread and a loop of its own."""
        other = OtherThread(self.subject.create(self.url))
        self._cleanup.push_async_callback(other.stop)
        await other.start()
        return other

    async def open_child(self, url: str | None = None, *, environment: Mapping[str, str] | None = None) -> Child:
        """Return a child process, with the variables of *environment*, that has opened an instance."""
        child = await Child.start(self.subject.adapters, self.place.tmp, environment=environment)
        self._cleanup.push_async_callback(child.stop)
        await child.open(url or self.url)
        return child

    async def open_nursery(self) -> Nursery:
        """Return a process that forks workers: many, each ready within milliseconds."""
        nursery = await Nursery.start(self.subject.adapters, self.place.tmp)
        self._cleanup.push_async_callback(nursery.stop)
        return nursery

    async def in_processes(
        self, nursery: Nursery, function: Callable[..., object], each: Sequence[Mapping[str, Json]]
    ) -> list[Any]:
        """
        Run *function(storage, at=..., **arguments)* in as many processes as *each* has arguments; return the answers.

        Args:
            nursery: Forks them.
            function: An async function at module level that first waits until *at*, when all have opened the storage.
            each: The arguments for each process, plain JSON.
        """
        at = barrier(0.3)
        parts: list[dict[str, Any]] = [{**arguments, "at": at} for arguments in each]
        pids = [await nursery.fork(self.url, function, **part) for part in parts]
        return [await nursery.join(pid) for pid in pids]

    async def open_stepper(self) -> Stepper:
        """Return a process that runs one call at a time in forks of itself, each killed where it is told to."""
        stepper = await Stepper.start(self.subject.adapters, self.place.tmp)
        self._cleanup.push_async_callback(stepper.stop)
        return stepper

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[object]:
        """Open a transaction of the engine's own driver on the store; see `StorageAdapter.begin`."""
        begin = self.subject.adapter(self.url).begin
        if begin is None:
            raise BlockedError('the adapter offers the add-on "transactions", and no `begin` to try it by')
        async with begin(StorageUrl(self.url)) as transaction:
            yield transaction

    @asynccontextmanager
    async def another_place(self, namespace: str | None = None) -> AsyncIterator[str]:
        """Lend the URL of another fresh namespace, called *namespace* if need be; it is destroyed afterwards."""
        place = Place.make(namespace)
        url = self.subject.url_in(place)
        try:
            yield url
        finally:
            await self.subject.destroy(url, place)
            place.remove()

    async def finish(self) -> None:
        """Close all that was opened, last first."""
        await self._cleanup.aclose()

    async def aided(self, aid: Callable[..., T] | None, *arguments: object) -> T:
        """Call a test aid of the subject on a thread, where it may run an event loop of its own; return its answer."""
        assert aid is not None
        return await asyncio.to_thread(aid, *arguments)

    # Jobs. All of virtual time begins at T0.

    def queue(self) -> str:
        """Return the name of a queue that this trial has not used yet."""
        self._queues += 1
        return f"queue-{self._queues}"

    def tracking_id(self) -> UUID:
        """Return a new tracking id."""
        return builders.new_id(self.rng)

    def job(self, queue_id: str = QUEUE, **fields: object) -> JobRecord:
        """Return a new job; see `builders.new_job` for the fields."""
        return builders.new_job(self.tracking_id(), queue_id, **fields)  # type: ignore[arg-type]  # its own signature

    def jobs(self, count: int, queue_id: str = QUEUE, **fields: object) -> list[JobRecord]:
        """Return *count* new jobs that differ only in their ids."""
        return [self.job(queue_id, **fields) for _ in range(count)]

    async def started(
        self, storage: JobStorageProvider, job: JobRecord | None = None, *, now: datetime = T0, worker: str = WORKER
    ) -> JobRecord:
        """Store *job*, or a new one, alone in a queue of its own, claim it at *now*, and return the claimed record."""
        stored = job or self.job(self.queue(), execute_after=now)
        await storage.store_jobs([stored])
        claimed = await storage.claim_jobs(builders.claim_of(stored.queue_id, limit=1, now=now, worker=worker))
        self.check.equal(
            [taken.tracking_id for taken in claimed.jobs],
            [stored.tracking_id],
            "a due job alone in its queue is claimed",
        )
        return claimed.jobs[0]

    async def brought_to(
        self, storage: JobStorageProvider, status: JobStatus, job: JobRecord | None = None, *, now: datetime = T0
    ) -> JobRecord:
        """
        Store *job*, or a new one, alone in a queue of its own, bring it to *status* by the usual verbs, and return it.

        It is claimed and settled at *now*; an EXPIRED one ends a minute later, at its `expire_on`.
        """
        stored = job or self.job(self.queue(), execute_after=now)
        if status is JobStatus.EXPIRED:
            stored = evolve(stored, expire_on=stored.expire_on or now + builders.MINUTE)
        if status in (JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.FAILED):
            await self.started(storage, stored, now=now)
        else:
            await storage.store_jobs([stored])
        lease = Lease(stored.tracking_id, 1)
        match status:
            case JobStatus.SUCCEEDED:
                await storage.settle_jobs([Settlement(lease, Succeeded())], now=now)
            case JobStatus.FAILED:
                await storage.settle_jobs([Settlement(lease, builders.failed(now))], now=now)
            case JobStatus.CANCELLED:
                await storage.cancel_job(stored.tracking_id, now=now)
            case JobStatus.EXPIRED:
                ends = stored.expire_on or now
                await storage.purge_stale_jobs(StaleJobs(now=ends, keep={}, queue_ids=frozenset([stored.queue_id])))
            case _:
                pass
        (brought,) = await self.read(storage, stored)
        self.check.equal(brought.status, status, f"a job can be brought to {status}")
        return brought

    async def read(self, storage: JobStorageProvider, *jobs: JobRecord) -> list[JobRecord]:
        """Return how *jobs* stand in the storage now; each must be there."""
        found = [await storage.get_job(job.tracking_id) for job in jobs]
        there = [job for job in found if job is not None]
        self.check.counts(ids_of(there), ids_of(jobs), "a job that was stored and not purged is there")
        return there

    def as_stored(self, job: JobRecord) -> JobRecord:
        """Return *job* as the storage keeps it: never early, its instants rounded to the resolution."""
        starts = round_up(job.execute_after, self.tick)
        ends = None if job.expire_on is None else round_down(job.expire_on, self.tick)
        return evolve(job, execute_after=starts, dequeue_after=starts, expire_on=ends)

    async def drain(
        self,
        storage: JobStorageProvider,
        *queue_ids: str,
        now: datetime = T0,
        limit: int = 100,
        worker: str = WORKER,
        lease_for: timedelta = LEASE,
    ) -> list[JobRecord]:
        """Claim until the storage says that nothing more is due, and return all that was claimed."""
        claim = builders.claim_of(*queue_ids, limit=limit, now=now, worker=worker, lease_for=lease_for)
        return await drained(storage.claim_jobs, claim, self.check)

    # Races, cancellation, made-up values, sizes.

    def examples(self, strategy: SearchStrategy[T], count: int) -> list[T]:
        """Return *count* values that Hypothesis makes up; the seed decides them, and longer profiles give more."""
        return examples_of(strategy, self.scaled(count), seed=self.rng.getrandbits(32))

    def schedules(self, count: int = 20) -> Iterator[Schedule]:
        """Give seeded schedules; longer profiles give more."""
        for number in range(self.scaled(count)):
            yield Schedule(random.Random(f"{self.rng.random()} {number}"), self.overlap)

    def cancelled_everywhere(self, make: Callable[[], Awaitable[T]]) -> AsyncIterator[Cut[T]]:
        """Run *make()* cancelled at every suspension point in turn; yield after each run. See `cancelling`."""
        return cancel_everywhere(make)

    @property
    def is_thorough(self) -> bool:
        """Whether the profile asks for all points of a sweep, not a sample."""
        return self.profile is not Profile.QUICK

    def scaled(self, count: int) -> int:
        """Return *count* for the quick profile, 5 times as many for full, 50 for soak."""
        return count * {Profile.QUICK: 1, Profile.FULL: 5, Profile.SOAK: 50}[self.profile]

    def sized(self, what: str, wanted: int, *, least: int, seconds: float = 2.0) -> int:
        """
        Return how many jobs to work on: *wanted*, or what the storage does in *seconds*, but not below *least*.

        The number is reported under the name *what*.
        """
        possible = int(self._measured.jobs_per_second * seconds)
        self.sizes[what] = max(least, min(wanted, possible))
        return self.sizes[what]


async def _close(storage: JobStorageProvider) -> None:
    """Close, whether it was closed before or not; what close() must do is for its own rules to see (R93, R117)."""
    with suppress(Exception):
        await storage.close()


async def drained(claim_jobs: Callable[[Claim], Awaitable[Claimed]], claim: Claim, check: Checks) -> list[JobRecord]:
    """
    Claim until nothing more is due, and return all that was claimed.

    A storage that never comes to an end breaks the rule: it gives a job again and again, or says "ask again" for ever.
    """
    promise = "claiming again and again comes to an end: each job is leased, then next_due is after now"
    jobs: list[JobRecord] = []
    times: Counter[UUID] = Counter()
    empty = 0
    while True:
        claimed = await claim_jobs(claim)
        jobs += claimed.jobs
        times.update(ids_of(claimed.jobs))
        if not claimed.jobs and (claimed.next_due is None or claimed.next_due > claim.now):
            return jobs
        empty = 0 if claimed.jobs else empty + 1
        if empty == 200:
            check.fails(
                promise, expected="an end", seen=f"200 empty answers that say 'ask again', after {len(jobs)} jobs"
            )
        again = [tracking_id for tracking_id in ids_of(claimed.jobs) if times[tracking_id] > 5]
        if again:
            check.fails(promise, expected="each job once", seen=f"the job {again[0]} six times")


def results_of(storage: JobStorageProvider) -> JobResultProvider:
    """Return *storage* as what the add-on "results" promises; for tests that need it."""
    assert isinstance(storage, JobResultProvider)
    return storage


def inspector_of(storage: JobStorageProvider) -> JobInspector:
    """Return *storage* as what the add-on "inspect" promises; for tests that need it."""
    assert isinstance(storage, JobInspector)
    return storage


def notifier_of(storage: JobStorageProvider) -> JobNotifier:
    """Return *storage* as what the add-on "notify" promises; for tests that need it."""
    assert isinstance(storage, JobNotifier)
    return storage


def transactional(storage: JobStorageProvider) -> TransactionalStorage[object]:
    """Return *storage* as what the add-on "transactions" promises; for tests that need it."""
    assert isinstance(storage, TransactionalStorage)
    return storage
