"""Seeded histories: a storage and the reference model go through the same calls and must give the same answers."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from attrs import evolve

from pannier.claims import Claim, Demand
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.purging import StaleJobs
from pannier.records import JobError, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier.storage import JobInspector, JobResultProvider, JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.builders import T0, new_id
from pannier_testing.checks import same
from pannier_testing.reference.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TICK = timedelta(microseconds=1)
QUEUES = ("mail", "mail.old", "Mail")
KEEP = {
    JobStatus.SUCCEEDED: timedelta(minutes=2),
    JobStatus.FAILED: timedelta(minutes=3),
    JobStatus.CANCELLED: timedelta(0),
    JobStatus.EXPIRED: timedelta(minutes=1),
}
STEPS = 250


class History:
    """One seeded history, and what it has come to."""

    def __init__(self, storage: JobStorageProvider, seed: int) -> None:
        self.storage = storage
        self.model = Model(storage.capabilities.time_resolution)
        self.random = Random(seed)
        self.now = T0
        self.leases: list[Lease] = []
        self.ids = [new_id(self.random)]
        self.seen: Counter[str] = Counter()

    async def play(self) -> None:
        """Take random steps, and compare everything after each."""
        steps: list[Callable[[], Coroutine[object, object, None]]] = [
            self.store, self.claim, self.claim, self.settle, self.settle, self.renew, self.cancel, self.purge,
            self.requeue, self.report,
        ]  # fmt: skip
        for _ in range(STEPS):
            self.jump()
            await self.random.choice(steps)()
            await self.compare()

    def jump(self) -> None:
        """Go on to the neighbourhood of an instant at which something changes, or stay."""
        instants = [
            at
            for job in self.model.jobs.values()
            for at in (job.dequeue_after, job.expire_on, job.finished_at and job.finished_at + timedelta(minutes=2))
            if at is not None and self.now <= at <= self.now + timedelta(hours=1)
        ]
        match self.random.randrange(4):
            case 0 if instants:
                self.now = max(self.now, self.random.choice(instants) + self.random.choice((-TICK, timedelta(0), TICK)))
            case 1:
                self.now += timedelta(seconds=self.random.choice((0, 1, 31)))
            case _:
                pass

    async def store(self) -> None:
        jobs = [self.new_job() for _ in range(self.random.randrange(1, 5))]
        assert await self.storage.store_jobs(jobs) == self.model.store(jobs)

    def new_job(self) -> JobRecord:
        starts = self.now + timedelta(seconds=self.random.choice((-5, 0, 0, 0, 40)))
        self.ids.append(new_id(self.random) if self.random.random() < 0.95 else self.random.choice(self.ids))
        return JobRecord(
            tracking_id=self.ids[-1],
            queue_id=self.random.choice(QUEUES),
            command=Payload({"n": self.random.randrange(100), "text": "ü\0"}),
            execute_after=starts,
            expire_on=self.random.choice((None, starts + timedelta(seconds=self.random.choice((1, 30, 60))))),
            created_at=self.now,
            priority=self.random.choice((-100, 0, 0, 7)),
            idempotency_key=self.random.choice((None, None, "a", "A", "b")),
            metadata=self.random.choice(({}, {"tenant": "x"}, {"tenant": "y", "z": ""})),
        )

    async def claim(self) -> None:
        names = self.random.sample(QUEUES, self.random.randrange(1, len(QUEUES) + 1))
        cut = self.random.randrange(len(names) + 1)
        demands = tuple(
            Demand(tuple(part), self.random.choice((0, 1, 2, 5, 100))) for part in (names[:cut], names[cut:]) if part
        )
        claim = Claim(
            demands=demands,
            worker_id=self.random.choice(("w1", "w2")),
            now=self.now,
            lease_for=timedelta(seconds=self.random.choice((1, 30))),
            look_ahead=timedelta(seconds=self.random.choice((0, 20, 3600))),
        )
        claimed, expected = await self.storage.claim_jobs(claim), self.model
        now = expected.down(self.now)
        taken = list(claimed.jobs)
        for demand in demands:
            mine = [job for job in taken if job.queue_id in demand.queue_ids]
            due = [job for job in expected.unfinished(demand.queue_ids) if expected.is_claimable(job, now)]
            assert len(mine) == min(demand.limit, len(due))
            self.check_order(mine, due)
        self.seen["re-claimed"] += sum(job.lapses > 0 for job in taken)
        granted = expected.grant([expected.jobs[job.tracking_id] for job in taken], claim)
        assert {job.tracking_id: job for job in granted.jobs} == {job.tracking_id: job for job in taken}
        self.check_next_due(claim, claimed.next_due, granted.next_due)
        self.leases += [job.lease for job in taken]

    def check_order(self, mine: list[JobRecord], due: list[JobRecord]) -> None:
        """What was taken from one queue id are the first of what was due there; across names rank alone counts."""
        taken = {job.tracking_id for job in mine}
        for queue_id in QUEUES:
            line = sorted(self.place(job) for job in due if job.queue_id == queue_id)
            seen = sorted(self.place(self.model.jobs[job.tracking_id]) for job in mine if job.queue_id == queue_id)
            assert seen == line[: len(seen)]
        ranks = [self.model.turn(job)[:2] for job in due if job.tracking_id in taken]
        left = [self.model.turn(job)[:2] for job in due if job.tracking_id not in taken]
        assert not ranks or not left or max(ranks) <= min(left)

    def place(self, job: JobRecord) -> tuple[object, ...]:
        """A job's place in its queue. Leases that lapse at the same instant share one."""
        turn = self.model.turn(job)
        return turn[:3] if job.status is JobStatus.RUNNING else turn

    def check_next_due(self, claim: Claim, seen: datetime | None, expected: datetime | None) -> None:
        if expected is not None:
            assert seen is not None
            assert seen <= max(expected, self.now)
        nothing_left = not any(
            self.model.is_claimable(job, self.model.down(self.now))
            for demand in claim.demands
            for job in self.model.unfinished(demand.queue_ids)
        )
        if nothing_left:
            assert seen is None or seen > self.now

    async def settle(self) -> None:
        settlements = [Settlement(self.some_lease(), self.outcome()) for _ in range(self.random.randrange(1, 4))]
        refused = await self.storage.settle_jobs(settlements, now=self.now)
        assert refused == self.model.settle(settlements, self.now)
        self.seen["refused"] += len(refused)

    def outcome(self) -> Outcome:
        error = JobError(attempt=1, at=self.now, kind="builtins.OSError", message=f"no {self.random.random()}")
        return self.random.choice(
            (
                Succeeded(),
                Succeeded(Payload({"r": 1.5})),
                Succeeded(Payload(None)),
                Failed(error),
                Retry(self.now + timedelta(seconds=self.random.choice((0, 10, 100))), error),
                Release(),
            )
        )

    async def renew(self) -> None:
        leases = {self.some_lease() for _ in range(self.random.randrange(1, 4))}
        lease_for = timedelta(seconds=self.random.choice((1, 30)))
        lost = await self.storage.renew_leases(leases, now=self.now, lease_for=lease_for)
        assert lost == self.model.renew(leases, self.now, lease_for)

    async def cancel(self) -> None:
        tracking_id = self.random.choice(self.ids)
        assert await self.storage.cancel_job(tracking_id, now=self.now) == self.model.cancel(tracking_id, self.now)

    async def purge(self) -> None:
        queue_ids = self.random.choice((None, None, frozenset({"mail"})))
        stale = StaleJobs(now=self.now, keep=KEEP, queue_ids=queue_ids, limit=1000)
        assert await self.storage.purge_stale_jobs(stale) == self.model.purge(stale)

    async def requeue(self) -> None:
        assert isinstance(self.storage, JobInspector)
        tracking_id = self.random.choice(self.ids)
        expire_on = self.random.choice((None, self.now + timedelta(seconds=50)))
        seen = await self.storage.requeue_job(tracking_id, now=self.now, expire_on=expire_on)
        assert seen == self.model.requeue(tracking_id, self.now, expire_on)
        self.seen[seen.value] += 1

    async def report(self) -> None:
        assert isinstance(self.storage, JobResultProvider)
        lease, progress = self.some_lease(), Payload({"step": self.random.randrange(9)})
        assert await self.storage.store_progress(lease, progress) is self.model.report(lease, progress)

    def some_lease(self) -> Lease:
        """A lease that was given out, now and then one that never was."""
        if not self.leases or self.random.random() < 0.05:
            return Lease(self.random.choice(self.ids), self.random.randrange(1, 4))
        return self.random.choice(self.leases[-12:])

    async def compare(self) -> None:
        """Compare jobs and counts. What a claim may have marked EXPIRED on its way, the model marks as well."""
        assert isinstance(self.storage, JobInspector)
        page = await self.storage.find_jobs(JobFilter(), limit=10_000)
        stored = {job.tracking_id: job for job in page.jobs}
        for tracking_id, job in stored.items():
            mine = self.model.jobs[tracking_id]
            if job.status is JobStatus.EXPIRED and self.model.is_expirable(mine, self.model.down(self.now)):
                self.seen["expired by a claim"] += 1
                self.model.put(evolve(mine, status=JobStatus.EXPIRED, finished_at=job.finished_at))
        assert stored.keys() == self.model.jobs.keys()
        for tracking_id, job in stored.items():
            assert same(job, self.model.jobs[tracking_id]), (job, self.model.jobs[tracking_id])
        wanted = JobFilter(metadata={"tenant": "x"})
        assert await self.storage.count_jobs(wanted) == self.model.count(wanted)


def on_memory(_request: pytest.FixtureRequest) -> str:
    return "memory://"


def on_sqlite(request: pytest.FixtureRequest) -> str:
    return f"sqlite:///{request.getfixturevalue('tmp_path')}/jobs.db?synchronous=normal"


def on_postgres(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue('postgres_url')}?schema={uuid4().hex}"


def on_mongo(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue('mongo_url')}/{uuid4().hex}?timeout=30"


SEEDS = {on_memory: 12, on_sqlite: 12, on_postgres: 12, on_mongo: 3}  # the stand-in for MongoDB is slow
CASES = [
    pytest.param(make, seed, id=f"{make.__name__}-{seed}") for make, seeds in SEEDS.items() for seed in range(seeds)
]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[StorageUrl]:
    """The URL of a storage that nobody else uses; a server is started for it only where it needs one."""
    url = StorageUrl(request.param(request))
    yield url
    asyncio.run(destroyed(url))


async def destroyed(url: StorageUrl) -> None:
    await Plugins.installed().adapter_for(url).destroy(url)


@pytest.mark.parametrize(("url", "seed"), CASES, indirect=["url"])
def test_a_storage_answers_as_the_model_does(url: StorageUrl, seed: int) -> None:
    """Through any history, answers and records are those of the specification."""

    async def play() -> None:
        storage = Plugins.installed().create_storage(url)
        await storage.open()
        history = History(storage, seed)
        try:
            await history.play()
        finally:
            await storage.close()
        assert min(history.seen[what] for what in ("re-claimed", "refused")) >= 1

    asyncio.run(play())
