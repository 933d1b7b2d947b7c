"""`JobQueues`: every argument of queueing, with its default and its error."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from attrs import frozen

from pannier import Command, ConfigurationError, Expiry, HandlerRegistry, JobQueues, JobRecord, QueueOptions, UsageError
from pannier.errors import EncodingError, InvalidJobError, UnknownSchemeError, UnregisteredCommandError
from pannier.records import Payload
from pannier_testing import ManualClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@frozen
class Work(Command[str]):
    """Has a key, if it is to."""

    path: str = "cat.png"
    key: str | None = None


@frozen
class Unknown(Command[None]):
    """Registered nowhere."""


@pytest.fixture
def jobs() -> JobQueues:
    """Job queues that know one command, at a fixed instant."""
    jobs = JobQueues("memory://", environment=ManualClock(NOW).environment)
    jobs.declare(Work, idempotency_key=lambda command: command.key)
    return jobs


def test_a_job_has_the_documented_defaults(jobs: JobQueues) -> None:
    """Now, four hours, no priority, no key, no metadata."""
    job = jobs.create_job(Work())
    assert job == JobRecord(
        tracking_id=job.tracking_id,
        queue_id="Work",
        command=Payload({"path": "cat.png", "key": None}),
        execute_after=NOW,
        expire_on=NOW + timedelta(hours=4),
        created_at=NOW,
    )


def test_a_job_set_for_later_expires_four_hours_after_that(jobs: JobQueues) -> None:
    """Counted from `execute_after`, so that a job for tomorrow can be queued at all."""
    tomorrow = NOW + timedelta(days=1)
    assert jobs.create_job(Work(), execute_after=tomorrow).expire_on == tomorrow + timedelta(hours=4)


def test_a_job_may_never_expire(jobs: JobQueues) -> None:
    """None is an answer; DEFAULT is the queue's own."""
    assert jobs.create_job(Work(), expire_on=None).expire_on is None
    assert jobs.create_job(Work(), expire_on=Expiry.DEFAULT).expire_on == NOW + timedelta(hours=4)


def test_a_job_at_the_end_of_time_never_expires(jobs: JobQueues) -> None:
    """Four hours later there is no instant."""
    assert jobs.create_job(Work(), execute_after=datetime.max.replace(tzinfo=UTC)).expire_on is None


def test_an_instant_in_any_zone_is_that_instant(jobs: JobQueues) -> None:
    """Stored in UTC."""
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    job = jobs.create_job(Work(), execute_after=datetime(2031, 1, 1, 5, 45, tzinfo=kathmandu))
    assert (job.execute_after, job.execute_after.tzinfo) == (datetime(2031, 1, 1, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"execute_after": datetime(2031, 1, 1)}, "execute_after must be an aware datetime"),  # noqa: DTZ001
        ({"expire_on": datetime(2031, 1, 1)}, "expire_on must be an aware datetime"),  # noqa: DTZ001
        ({"execute_after": "tomorrow"}, "execute_after must be a datetime, not str"),
        ({"expire_on": 5}, "expire_on must be a datetime, not int"),
        ({"expire_on": NOW}, "must lie after execute_after"),
        ({"expire_on": NOW - timedelta(1)}, "must lie after execute_after"),
        ({"execute_after": NOW + timedelta(2), "expire_on": NOW + timedelta(1)}, "must lie after execute_after"),
        ({"priority": 101}, "priority must be from -100 to 100"),
        ({"priority": -101}, "priority must be from -100 to 100"),
        ({"priority": 1.0}, "priority must be an int"),
        ({"idempotency_key": 5}, "idempotency_key must be a str"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_a_job_that_cannot_be_is_refused_by_name(jobs: JobQueues, options: dict[str, object], message: str) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidJobError, match=message):
        jobs.create_job(Work(), **options)  # type: ignore[arg-type]  # the fault that the test is about


def test_the_handlers_selector_chooses_the_key(jobs: JobQueues) -> None:
    """Unless the caller gives one; a blank one is none."""
    assert jobs.create_job(Work(key="k")).idempotency_key == "k"
    assert jobs.create_job(Work(key="k"), idempotency_key="mine").idempotency_key == "mine"
    assert jobs.create_job(Work(key=" ")).idempotency_key is None


def test_a_command_of_wrong_type_is_not_queued(jobs: JobQueues) -> None:
    """Here, where it was made, rather than at a worker."""
    with pytest.raises(EncodingError, match=r"expected str @ Work\.path"):
        jobs.create_job(Work(path=5))  # type: ignore[arg-type]  # the fault that the test is about


def test_an_unknown_command_is_refused(jobs: JobQueues) -> None:
    """Queued, executed or tracked."""
    for call in (lambda: jobs.create_job(Unknown()), lambda: jobs.tracker(Unknown)):
        with pytest.raises(UnregisteredCommandError, match="has not been registered for 'Unknown'"):
            call()


def test_what_is_only_declared_cannot_be_executed(jobs: JobQueues) -> None:
    """It has no handler here."""
    with pytest.raises(UsageError, match="no handler to execute it"):
        asyncio.run(jobs.execute(Work()))


def test_nothing_is_stored_before_the_storage_is_open(jobs: JobQueues) -> None:
    """The message says what to write."""
    with pytest.raises(UsageError, match="async with jobs"):
        asyncio.run(jobs.queue_job(Work()))


def test_a_second_job_of_a_key_is_the_first_one(jobs: JobQueues) -> None:
    """Its id is returned, also inside a batch; without a key nothing is the same."""

    async def main() -> None:
        async with jobs:
            first = await jobs.queue_job(Work("a", key="k"))
            assert await jobs.queue_job(Work("b", key="k")) == first
            other, again = await jobs.queue_jobs([Work("c", key="l"), Work("d", key="l")])
            assert other == again != first
            assert await jobs.queue_job(Work()) != await jobs.queue_job(Work())

    asyncio.run(main())


def test_a_job_stored_by_the_caller_runs_when_its_queue_is_triggered() -> None:
    """`create_job`, the storage, `trigger_job_execution`: the outbox."""
    jobs = JobQueues("memory://")

    @jobs.handler()
    async def work(command: Work) -> str:
        return command.path

    async def main() -> None:
        async with jobs.worker():
            job = jobs.create_job(Work("dog.png"))
            await jobs.storage.store_jobs([job])
            jobs.trigger_job_execution(Work)
            result = await jobs.tracker(Work).wait_for_result(job.tracking_id, timeout=timedelta(seconds=5))
            assert result == "dog.png"

    asyncio.run(main())


def test_handlers_may_be_collected_before_the_job_queues_exist() -> None:
    """In registries that are passed in, or included later."""
    first, second = HandlerRegistry(), HandlerRegistry()
    first.declare(Work)
    second.declare(Unknown)
    jobs = JobQueues("memory://", handlers=first)
    jobs.include(second)
    assert {registration.queue_id for registration in jobs.registry} == {"Work", "Unknown"}


def test_an_unknown_scheme_suggests_the_close_one() -> None:
    """And lists what is installed."""
    with pytest.raises(UnknownSchemeError, match="did you mean 'memory'"):
        JobQueues("memori://")


def test_what_is_no_storage_is_refused() -> None:
    """Where it is passed in."""
    with pytest.raises(ConfigurationError, match="int does not"):
        JobQueues(5)  # type: ignore[arg-type]  # the fault that the test is about


def test_the_same_queues_on_another_storage_share_nothing_but_what_they_know() -> None:
    """Commands, handlers and options are the same; what is registered later, and what is stored, is not."""

    @frozen
    class Later(Command[None]):
        """Registered too late."""

    jobs = JobQueues("memory://", defaults=QueueOptions(max_concurrency=3))
    jobs.declare(Work)
    others = jobs.on_storage("memory://elsewhere", environment=ManualClock(NOW).environment)
    jobs.declare(Later, name="later")

    async def main() -> None:
        async with jobs, others:
            tracking_id = await jobs.queue_job(Work())
            assert await others.tracker(Work).get_job(tracking_id) is None

    asyncio.run(main())
    assert (others.storage_name, others.defaults, others.now()) == ("memory://elsewhere", jobs.defaults, NOW)
    assert [known.command for known in others.registry] == [Work]
