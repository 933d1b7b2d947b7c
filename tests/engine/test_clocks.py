"""Clocks: where the storage has one, workers whose own are wrong agree about what is due and what has lapsed (E15)."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from attrs import frozen

from pannier import Command, JobQueues, WorkerOptions
from pannier.clock import Clock
from pannier.environment import Environment
from pannier.inspection import JobFilter
from tests.engine.conftest import QUICK, SHORT_LEASES, play, until
from tests.engine.troubled import TroubledStorage


@frozen
class Work(Command[int]):
    """Anything."""


@frozen
class Wrong:
    """A wall clock that is off."""

    by: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


class Stepped:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


def queues(storage: TroubledStorage, wall: Clock) -> JobQueues:
    """Return job queues of a machine whose wall clock is *wall*."""
    return JobQueues(storage, defaults=QUICK, environment=Environment(wall=wall))


@pytest.mark.parametrize("seconds", [-3_600, -30, 30, 3_600])
def test_a_wrong_wall_clock_starts_nothing_early_and_nothing_late(seconds: int) -> None:
    """E15: the storage's clock decides when a job is due."""
    storage = TroubledStorage(clock=lambda: datetime.now(UTC))
    jobs = queues(storage, Wrong(timedelta(seconds=seconds)))
    started: list[datetime] = []

    @jobs.handler()
    async def work(command: Work) -> int:
        started.append(datetime.now(UTC))
        return 1

    async def main() -> None:
        async with jobs.worker():
            due = datetime.now(UTC) + timedelta(milliseconds=300)
            tracking_id = await jobs.queue_job(Work(), execute_after=due)
            await jobs.tracker(Work).wait_for_result(tracking_id, timeout=timedelta(seconds=5))
        assert timedelta(0) <= started[0] - due < timedelta(milliseconds=100)

    play(main)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wall_clock_that_is_set_while_a_handler_runs_loses_no_lease(hours: int) -> None:
    """E15: nothing runs twice, and no lease is longer than was asked for."""
    storage = TroubledStorage(clock=lambda: datetime.now(UTC))
    wall = Stepped()
    jobs = queues(storage, wall)
    runs: list[int] = []

    @jobs.handler()
    async def work(command: Work) -> int:
        runs.append(1)
        wall.by = timedelta(hours=hours)
        await asyncio.sleep(2 * SHORT_LEASES.lease_for.total_seconds())
        job = await jobs.storage.get_job(tracking_ids[0])
        assert job is not None
        assert job.dequeue_after - datetime.now(UTC) <= SHORT_LEASES.lease_for + timedelta(seconds=1)
        return 1

    tracking_ids = []

    async def main() -> None:
        async with jobs.worker(SHORT_LEASES):
            tracking_ids.append(await jobs.queue_job(Work()))
            await jobs.tracker(Work).wait_for_result(tracking_ids[0])

    play(main)
    assert runs == [1]


def test_a_slow_reading_of_the_clock_is_taken_again() -> None:
    """E15: a reading is wrong by half its round trip at most, so the promptest of a few counts."""
    storage = TroubledStorage(clock=lambda: datetime.now(UTC))
    jobs = JobQueues(storage, defaults=QUICK)
    readings: list[int] = []

    async def slow_at_first() -> None:
        readings.append(1)
        if len(readings) == 1:
            await asyncio.sleep(1)

    storage.after["read_clock"] = slow_at_first

    async def main() -> None:
        async with jobs:
            assert abs(jobs.session.clock.now() - datetime.now(UTC)) < timedelta(milliseconds=100)

    play(main)
    assert len(readings) == 2


def test_the_clock_is_read_anew_after_a_suspension(monkeypatch: pytest.MonkeyPatch) -> None:
    """E15: seconds that the event loop has slept through are noticed, and the storage's clock is asked."""
    monkeypatch.setattr("pannier.session.LOOK_SECONDS", 0.02)
    storage = TroubledStorage(clock=lambda: datetime.now(UTC))
    slept = [0.0]
    seconds = lambda: asyncio.get_running_loop().time() + slept[0]  # noqa: E731  # a clock of one line
    jobs = JobQueues(storage, environment=Environment(seconds=seconds))

    async def main() -> None:
        async with jobs:
            await asyncio.sleep(0.1)
            assert storage.calls["read_clock"] == 1
            slept[0] = 7_200.0
            await until(lambda: storage.calls["read_clock"] == 2)
            assert abs(jobs.session.clock.now() - datetime.now(UTC)) < timedelta(milliseconds=500)

    play(main)


class Set:
    """A storage's clock that somebody sets."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.by


@pytest.fixture
def read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the clock every few milliseconds, for tests that can't wait for a minute."""
    monkeypatch.setattr("pannier.session.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("pannier.session.READ_CLOCK_SECONDS", 0.02)


@pytest.mark.usefixtures("read_often")
def test_an_idle_worker_whose_clock_is_set_back_goes_on_probing() -> None:
    """A job stored without a hint is found, though the next probe was to be an hour away by the new clock."""
    clock = Set()
    storage = TroubledStorage(clock=clock)
    jobs = JobQueues(storage, defaults=QUICK)

    @jobs.handler()
    async def work(command: Work) -> int:
        return 1

    async def main() -> None:
        async with jobs.worker(WorkerOptions(probe_every=timedelta(milliseconds=200))):
            await until(lambda: storage.calls["claim_jobs"] > 1)
            clock.by = timedelta(hours=-1)
            await until(lambda: jobs.session.clock.now() < datetime.now(UTC) - timedelta(minutes=30))
            job = jobs.create_job(Work())
            await jobs.storage.store_jobs([job])
            await jobs.tracker(Work).wait_for_result(job.tracking_id)

    play(main)


@pytest.mark.usefixtures("read_often")
def test_leases_are_renewed_by_a_clock_that_was_set_back() -> None:
    """The lease ends soon by the new clock as well, and the handler runs once, however long it takes."""
    clock = Set()
    storage = TroubledStorage(clock=clock)
    jobs = JobQueues(storage, defaults=QUICK)
    runs: list[int] = []

    @jobs.handler()
    async def work(command: Work) -> int:
        runs.append(1)
        clock.by = timedelta(hours=-1)
        await asyncio.sleep(3 * SHORT_LEASES.lease_for.total_seconds())
        [job] = (await jobs.storage.find_jobs(JobFilter())).jobs  # type: ignore[attr-defined]  # the memory storage's
        assert timedelta(0) < job.dequeue_after - clock() <= SHORT_LEASES.lease_for
        return 1

    async def main() -> None:
        async with jobs.worker(SHORT_LEASES):
            tracking_id = await jobs.queue_job(Work())
            await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert runs == [1]
