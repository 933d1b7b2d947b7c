"""Queueing beside that of FastEndpoints: lines F25 to F42 of the table in docs/."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import frozen

from pannier import Command, JobQueues, JobRecord, JobResult, JobStatus, TrackableJob
from pannier.errors import InvalidJobError, UnregisteredCommandError
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from tests.engine.conftest import play, until
from tests.engine.troubled import TroubledStorage

HOUR = timedelta(hours=1)


@frozen
class Work(Command[str]):
    """Has a key, if it is to."""

    key: str | None = None


@frozen
class Other(Command[str]):
    """Has one, too."""

    key: str | None = None


@frozen
class Crunch(TrackableJob[JobResult[int]]):
    """Carries its tracking id."""

    key: str | None = None


@frozen
class Unknown(Command[None]):
    """Registered nowhere."""


@pytest.fixture
def storage() -> TroubledStorage:
    """The storage, to be looked into."""
    return TroubledStorage()


@pytest.fixture
def jobs(storage: TroubledStorage) -> JobQueues:
    """Job queues that know three commands, each with a key."""
    jobs = JobQueues(storage)
    jobs.declare(Work, idempotency_key=lambda command: command.key)
    jobs.declare(Other, idempotency_key=lambda command: command.key)
    jobs.declare(Crunch, idempotency_key=lambda command: command.key)
    return jobs


async def stored(storage: TroubledStorage) -> list[JobRecord]:
    """Return all jobs."""
    return list((await storage.find_jobs(JobFilter())).jobs)


def test_f25_queueing_gives_a_tracking_id(jobs: JobQueues, storage: TroubledStorage) -> None:
    """And there is one queue for each type of command."""

    async def main() -> None:
        async with jobs:
            ids = [await jobs.queue_job(Work()), await jobs.queue_job(Other()), await jobs.queue_job(Work())]
            assert [type(tracking_id) for tracking_id in ids] == [UUID, UUID, UUID]
            assert {job.tracking_id: job.queue_id for job in await stored(storage)} == dict(
                zip(ids, ["Work", "Other", "Work"], strict=True)
            )

    play(main)


def test_f26_a_queue_has_a_stable_name(jobs: JobQueues) -> None:
    """The class's own, without its module; the original hashes the full name, so that moving a class loses its jobs."""
    assert jobs.create_job(Work()).queue_id == "Work"
    jobs.declare(Unknown, name="well-known")
    assert jobs.create_job(Unknown()).queue_id == "well-known"


def test_f27_a_job_is_due_now_and_expires_after_four_hours(jobs: JobQueues) -> None:
    """Counted from execute_after; the original counts from queueing, and so refuses every job for later than that."""
    now = datetime.now(UTC)
    job, later = jobs.create_job(Work()), jobs.create_job(Work(), execute_after=now + 24 * HOUR)
    assert abs(job.execute_after - now) < timedelta(minutes=1)
    assert job.expire_on == job.execute_after + 4 * HOUR
    assert later.expire_on == now + 28 * HOUR


@pytest.mark.parametrize("name", ["execute_after", "expire_on"])
def test_f28_a_naive_datetime_is_refused(jobs: JobQueues, name: str) -> None:
    """It could mean any instant of a day; the error says which argument it was."""
    with pytest.raises(InvalidJobError, match=f"{name} must be an aware datetime"):
        jobs.create_job(Work(), **{name: datetime(2099, 1, 1)})  # type: ignore[arg-type]  # noqa: DTZ001


@pytest.mark.parametrize("span", [timedelta(0), -HOUR])
def test_f29_an_expiry_that_is_not_after_the_start_is_refused(jobs: JobQueues, span: timedelta) -> None:
    """Equal ones too, as in the original."""
    start = datetime.now(UTC) + HOUR
    with pytest.raises(InvalidJobError, match="must lie after execute_after"):
        jobs.create_job(Work(), execute_after=start, expire_on=start + span)


def test_f30_an_unregistered_command_is_refused(jobs: JobQueues) -> None:
    """With the original's words, and what to do."""
    with pytest.raises(UnregisteredCommandError, match="a job queue has not been registered for 'Unknown'"):
        jobs.create_job(Unknown())


def test_f32_what_is_stored(jobs: JobQueues, storage: TroubledStorage) -> None:
    """The original's fields: id, queue, command, the three instants, whether it is complete, key and result."""

    async def main() -> None:
        async with jobs:
            tracking_id = await jobs.queue_job(Work("k"))
            [job] = await stored(storage)
            assert (job.tracking_id, job.queue_id, job.command.data) == (tracking_id, "Work", {"key": "k"})
            assert job.dequeue_after == job.execute_after
            assert job.expire_on == job.execute_after + 4 * HOUR
            assert (job.is_complete, job.idempotency_key, job.result) == (False, "k", None)

    play(main)


def test_f33_a_trackable_command_knows_its_tracking_id(jobs: JobQueues) -> None:
    """It is written into the command that was queued, and into the one that is executed."""

    async def main() -> None:
        async with jobs:
            command = Crunch()
            assert await jobs.queue_job(command) == command.tracking_id
            job = await jobs.tracker(Crunch).get_job(command.tracking_id)
            assert job is not None
            assert job.get_command(Crunch, jobs.codec).tracking_id == command.tracking_id

    play(main)


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_f36_a_blank_key_is_none(jobs: JobQueues, storage: TroubledStorage, blank: str | None) -> None:
    """Two jobs without a key are two jobs."""

    async def main() -> None:
        async with jobs:
            await jobs.queue_jobs([Work(blank), Work(blank)])
            assert [job.idempotency_key for job in await stored(storage)] == [None, None]

    play(main)


def test_f37_a_key_blocks_until_its_job_is_purged(storage: TroubledStorage) -> None:
    """Also after the job is complete; then it is free again."""
    jobs = JobQueues(storage)

    def key(command: Work) -> str | None:
        return command.key

    @jobs.handler(idempotency_key=key)
    async def work(command: Work) -> str:
        return "done"

    async def main() -> None:
        async with jobs.worker():
            first = await jobs.queue_job(Work("k"))
            await jobs.tracker(Work).wait_for_result(first)
            assert await jobs.queue_job(Work("k")) == first
            now = jobs.session.clock.now()
            await storage.purge_stale_jobs(StaleJobs(now=now, keep={JobStatus.SUCCEEDED: timedelta(0)}))
            assert await jobs.queue_job(Work("k")) != first

    play(main)


def test_f38_a_duplicate_gives_the_existing_id(jobs: JobQueues, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is raised; a warning is logged, and the command carries the id that stands."""

    async def main() -> None:
        async with jobs:
            first = await jobs.queue_job(Crunch("k"))
            again = Crunch("k")
            assert await jobs.queue_job(again) == first
            assert again.tracking_id == first

    with caplog.at_level(logging.WARNING, "pannier"):
        play(main)
    assert "duplicate" in caplog.text


def test_f39_one_key_in_two_queues_is_two_jobs(jobs: JobQueues) -> None:
    """Its scope is the queue."""

    async def main() -> None:
        async with jobs:
            assert await jobs.queue_job(Work("k")) != await jobs.queue_job(Other("k"))

    play(main)


def test_f40_duplicates_at_once_store_one_job(jobs: JobQueues, storage: TroubledStorage) -> None:
    """All of them get its id."""

    async def main() -> None:
        async with jobs:
            ids = await asyncio.gather(*(jobs.queue_job(Work("k")) for _ in range(16)))
            assert {job.tracking_id for job in await stored(storage)} == set(ids)
            assert len(set(ids)) == 1

    play(main)


def test_f42_a_job_is_never_early_and_needs_no_exact_start(storage: TroubledStorage) -> None:
    """`execute_after` means not before."""
    jobs = JobQueues(storage)
    started: list[datetime] = []

    @jobs.handler()
    async def work(command: Work) -> str:
        started.append(datetime.now(UTC))
        return "done"

    async def main() -> None:
        async with jobs.worker():
            due = datetime.now(UTC) + timedelta(milliseconds=200)
            await jobs.queue_job(Work(), execute_after=due)
            await until(lambda: started)
            assert started[0] >= due

    play(main)
