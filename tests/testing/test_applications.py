"""The helpers for tests of applications: each is used as its page says, and each fails where it should."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import field, frozen

from pannier import (
    Command,
    JobContext,
    JobEvent,
    JobEventKind,
    JobFailedError,
    JobQueues,
    JobStatus,
    Middleware,
    Next,
    QueueOptions,
    RetryPolicy,
    StorageError,
    UsageError,
    WorkerOptions,
    hookimpl,
)
from pannier.errors import EncodingError
from pannier_testing import (
    AttemptsFailedError,
    Fault,
    FaultyStorage,
    ManualClock,
    drain,
    queued_commands,
    queued_jobs,
    run_due_jobs,
    run_inline,
)
from pannier_testing import sync as blocking

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@frozen
class Charge(Command[int]):
    """Costs something; a negative amount can't be charged."""

    amount: int
    tags: tuple[str, ...] = ()


@frozen
class Receipt(Command[None]):
    """Queued by the handler of `Charge`."""

    amount: int


@frozen
class Elsewhere(Command[None]):
    """Handled by another program."""


@frozen
class Shop:
    """What the handlers have done."""

    charged: list[Charge] = field(factory=list)
    receipts: list[int] = field(factory=list)


@pytest.fixture
def shop() -> Shop:
    """A shop that has done nothing yet."""
    return Shop()


@pytest.fixture
def pannier_application(shop: Shop) -> JobQueues:
    """The application under test."""
    jobs = JobQueues(
        "sqlite:///never-opened.db", defaults=QueueOptions(retry=RetryPolicy(max_attempts=2, first_delay=MINUTE))
    )
    jobs.declare(Elsewhere)

    @jobs.handler()
    async def charge(command: Charge, job: JobContext[int]) -> int:
        if command.amount < 0:
            raise ValueError("not that way round")
        shop.charged.append(command)
        await job.queues.queue_job(Receipt(command.amount))
        return command.amount

    @jobs.handler()
    def send(command: Receipt) -> None:
        shop.receipts.append(command.amount)

    return jobs


# -- the fixture -------------------------------------------------------------------------------------------------------


async def test_the_fixture_s_queues_are_the_application_s_in_memory(
    pannier_application: JobQueues, pannier_jobs: JobQueues, shop: Shop
) -> None:
    """Handlers and defaults are those of the application, which is never opened."""
    async with pannier_jobs:
        await pannier_jobs.queue_job(Charge(5))
        await drain(pannier_jobs)
        assert not pannier_application.is_open
    assert pannier_jobs.storage_name == "memory://"
    assert pannier_jobs.defaults == pannier_application.defaults
    assert shop.charged == [Charge(5)]


async def test_each_opening_of_the_fixture_s_queues_finds_nothing(pannier_jobs: JobQueues) -> None:
    """What one test has queued is not seen by the next."""
    for _ in range(2):
        async with pannier_jobs:
            assert await queued_commands(pannier_jobs, Charge) == []
            await pannier_jobs.queue_job(Charge(1))


def test_the_plugin_of_pytest_imports_nothing_of_pannier() -> None:
    """It is loaded with each run of pytest, also by those who test something else."""
    program = "import sys, pytest, pannier_testing.plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert {"pannier", "attrs", "hypothesis"}.isdisjoint(loaded.split())


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_queued_commands_are_those_that_wait_in_order(
    pannier_jobs: JobQueues, pannier_clock: ManualClock
) -> None:
    """As they were queued, also those for later; what has ended and what is another's is not among them."""
    async with pannier_jobs:
        await pannier_jobs.queue_job(Charge(1))
        await drain(pannier_jobs)
        await pannier_jobs.queue_job(Charge(3), execute_after=pannier_clock.now() + HOUR)
        await pannier_jobs.queue_job(Elsewhere())
        await pannier_jobs.queue_job(Charge(2, ("a", "b")), priority=7)
        assert await queued_commands(pannier_jobs, Charge) == [Charge(3), Charge(2, ("a", "b"))]
        assert [(job.execute_after, job.priority) for job in await queued_jobs(pannier_jobs, Charge)] == [
            (pannier_clock.now() + HOUR, 0),
            (pannier_clock.now(), 7),
        ]


async def test_more_jobs_than_a_page_are_listed(pannier_jobs: JobQueues) -> None:
    """A page of a listing holds 100."""
    async with pannier_jobs:
        await pannier_jobs.queue_jobs([Charge(n) for n in range(250)])
        assert [command.amount for command in await queued_commands(pannier_jobs, Charge)] == [*range(250)]


async def test_job_queues_tell_the_time_that_they_go_by(pannier_jobs: JobQueues, pannier_clock: ManualClock) -> None:
    """So that what a handler queues for later is moved by the same clock."""
    pannier_clock.advance(hours=1)
    assert pannier_jobs.now() == pannier_clock.now()
    async with pannier_jobs:
        assert pannier_jobs.now() == pannier_clock.now()


# -- draining ----------------------------------------------------------------------------------------------------------


async def test_draining_runs_also_what_the_jobs_queue(pannier_jobs: JobQueues, shop: Shop) -> None:
    """Until nothing is due; the jobs that ran are returned as they are now."""
    async with pannier_jobs:
        await pannier_jobs.queue_job(Charge(5))
        ran = await drain(pannier_jobs)
        assert [(job.queue_id, job.status) for job in ran] == [
            ("Charge", JobStatus.SUCCEEDED),
            ("Receipt", JobStatus.SUCCEEDED),
        ]
        assert await drain(pannier_jobs) == []
    assert (shop.charged, shop.receipts) == ([Charge(5)], [5])


async def test_draining_raises_what_a_handler_raised(pannier_jobs: JobQueues) -> None:
    """With the traceback, although the job is to be tried again: no failure passes unseen."""
    async with pannier_jobs:
        await pannier_jobs.queue_job(Charge(-1))
        with pytest.raises(
            AttemptsFailedError, match=r"(?s)'Charge', attempt 1: ValueError: not that .*Traceback"
        ) as no:
            await drain(pannier_jobs)
    assert [job.status for job in no.value.jobs] == [JobStatus.PENDING]


async def test_a_job_that_fails_is_tried_again_when_its_time_comes(
    pannier_jobs: JobQueues, pannier_clock: ManualClock
) -> None:
    """`run_due_jobs` lets handlers fail; the clock decides about the next attempt."""
    async with pannier_jobs:
        tracking_id = await pannier_jobs.queue_job(Charge(-1))
        [waiting] = await run_due_jobs(pannier_jobs)
        assert (waiting.status, len(waiting.errors)) == (JobStatus.PENDING, 1)
        assert await run_due_jobs(pannier_jobs) == []

        pannier_clock.advance_to(waiting.dequeue_after)
        [failed] = await run_due_jobs(pannier_jobs)
        assert (failed.status, len(failed.errors)) == (JobStatus.FAILED, 2)
        with pytest.raises(JobFailedError, match="not that way round"):
            await pannier_jobs.tracker(Charge).wait_for_result(tracking_id)


async def test_a_job_for_later_runs_when_the_clock_says_so(
    pannier_jobs: JobQueues, pannier_clock: ManualClock, shop: Shop
) -> None:
    """Four hours pass at once."""
    async with pannier_jobs:
        await pannier_jobs.queue_job(Charge(1), execute_after=pannier_clock.now() + 4 * HOUR)
        pannier_clock.advance(hours=3, minutes=59, seconds=59.999)
        assert await drain(pannier_jobs) == []
        pannier_clock.advance(seconds=0.001)
        await drain(pannier_jobs)
    assert shop.charged == [Charge(1)]


async def test_a_job_that_was_not_run_in_time_expires(
    pannier_jobs: JobQueues, pannier_clock: ManualClock, shop: Shop
) -> None:
    """After four hours; draining marks it, and does not run it."""
    async with pannier_jobs:
        tracking_id = await pannier_jobs.queue_job(Charge(1))
        pannier_clock.advance(hours=4)
        assert await drain(pannier_jobs) == []
        job = await pannier_jobs.tracker(Charge).get_job(tracking_id)
    assert job is not None
    assert job.status is JobStatus.EXPIRED
    assert shop.charged == []


async def test_draining_deletes_nothing(pannier_jobs: JobQueues, pannier_clock: ManualClock) -> None:
    """However far the clock has gone on: a test may still look at what has ended."""
    async with pannier_jobs:
        tracking_id = await pannier_jobs.queue_job(Receipt(1))
        await drain(pannier_jobs)
        pannier_clock.advance(days=365)
        await drain(pannier_jobs)
        assert await pannier_jobs.tracker(Receipt).get_job(tracking_id) is not None


async def test_jobs_of_commands_without_a_handler_stay(pannier_jobs: JobQueues) -> None:
    """Another program's jobs are due here for ever, and keep nobody waiting."""
    async with pannier_jobs:
        await pannier_jobs.queue_job(Elsewhere())
        assert await drain(pannier_jobs) == []
        assert await queued_commands(pannier_jobs, Elsewhere) == [Elsewhere()]


async def test_draining_outlasts_faults_of_the_storage(pannier_application: JobQueues, shop: Shop) -> None:
    """Whatever is done twice for them; a lost reply to a claim leaves its jobs to the end of their lease."""
    storage = FaultyStorage()
    storage.before["claim_jobs"] = Fault(times=3)
    storage.after["settle_jobs"] = Fault(times=3)
    async with pannier_application.on_storage(storage) as jobs:
        await jobs.queue_job(Charge(1))
        assert [job.status for job in await drain(jobs)] == [JobStatus.SUCCEEDED] * 2
    assert shop.charged == [Charge(1)]


@pytest.mark.parametrize("storage", ["sqlite", "postgres"])
def test_draining_works_on_storages_that_last(
    storage: str, request: pytest.FixtureRequest, tmp_path: Path, pannier_application: JobQueues, shop: Shop
) -> None:
    """For tests of what only such a storage has, such as a transaction."""
    urls = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/jobs.db",
        "postgres": lambda: f"{request.getfixturevalue('postgres_url')}?schema={tmp_path.name}",
    }
    jobs = pannier_application.on_storage(urls[storage]())
    with jobs.sync:
        jobs.sync.queue_job(Charge(5))
        assert blocking.queued_commands(jobs, Charge) == [Charge(5)]
        assert [job.status for job in blocking.drain(jobs)] == [JobStatus.SUCCEEDED] * 2
        assert blocking.drain(jobs) == []
    assert shop.receipts == [5]


async def test_draining_waits_for_the_application_s_own_worker() -> None:
    """A web application may run one in its process; what that has taken is a part of what is due."""
    storage = FaultyStorage()
    jobs = JobQueues(storage)
    started, released = asyncio.Event(), asyncio.Event()

    @jobs.handler()
    async def wait(command: Receipt) -> None:
        started.set()
        await released.wait()

    async def release() -> None:
        released.set()  # draining has begun: it has looked

    async with jobs.worker():
        await jobs.queue_job(Receipt(1))
        await started.wait()
        storage.after["find_jobs"] = release
        assert [job.status for job in await drain(jobs)] == [JobStatus.SUCCEEDED]


async def test_draining_gives_up_and_says_what_is_still_there() -> None:
    """A handler that never ends keeps nobody waiting for ever."""
    jobs = JobQueues("memory://")
    started = asyncio.Event()

    @jobs.handler()
    async def wait(command: Receipt) -> None:
        started.set()
        await asyncio.Event().wait()

    async with jobs.worker(WorkerOptions(shutdown_grace=timedelta(0))):
        await jobs.queue_job(Receipt(1))
        await started.wait()
        with pytest.raises(TimeoutError, match=r"not drained within 0\.01 s: Receipt .* \(running\)"):
            await drain(jobs, within=timedelta(milliseconds=10))


async def test_middleware_and_events_are_those_of_production() -> None:
    """A real worker drains."""
    told: list[JobEventKind] = []
    wrapped: list[Command[object]] = []

    class Listener:
        @hookimpl
        def pannier_job_event(self, event: JobEvent) -> None:
            told.append(event.kind)

    async def wrap(command: Command[object], job: JobContext[object], call: Next) -> object:
        wrapped.append(command)
        return await call(command)

    middleware: Middleware = wrap
    application = JobQueues("memory://", middleware=[middleware], plugins=[Listener()])

    @application.handler()
    async def send(command: Receipt) -> None:
        """Send nothing."""

    jobs = application.on_storage("memory://")
    async with jobs:
        await jobs.queue_job(Receipt(1))
        await drain(jobs)
    assert wrapped == [Receipt(1)]
    assert told == [JobEventKind.QUEUED, JobEventKind.CLAIMED, JobEventKind.SUCCEEDED]


# -- inline ------------------------------------------------------------------------------------------------------------


async def test_running_inline_gives_the_handler_s_result(pannier_jobs: JobQueues, shop: Shop) -> None:
    """The handler gets an equal command, not the same one; nothing is stored, so only open queues can be queued to."""
    command = Charge(5, ("a",))
    async with pannier_jobs:
        assert await run_inline(pannier_jobs, command) == 5
    assert shop.charged == [command]
    assert shop.charged[0] is not command


async def test_running_inline_finds_what_a_payload_cannot_hold() -> None:
    """`execute` would not: the handler would get what nobody could have stored."""
    jobs = JobQueues("memory://")

    @jobs.handler()
    async def charge(command: Charge) -> int:
        return "five"  # type: ignore[return-value]  # the fault that the test is about

    with pytest.raises(EncodingError):
        await run_inline(jobs, Charge("five"))  # type: ignore[arg-type]  # as above
    with pytest.raises(EncodingError, match="expected int, got str"):
        await run_inline(jobs, Charge(5))


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_manual_clock_goes_on_only_when_told() -> None:
    """By days, hours, minutes and seconds, or to an instant; never back."""
    clock = ManualClock(datetime(2031, 1, 1, tzinfo=UTC))
    clock.advance(days=1, hours=1, minutes=1, seconds=1)
    assert (clock.now(), clock.seconds()) == (datetime(2031, 1, 2, 1, 1, 1, tzinfo=UTC), 90_061)
    clock.advance_to(datetime(2031, 2, 1, tzinfo=UTC))
    assert clock.now() == datetime(2031, 2, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(seconds=-1)
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2031, 1, 1))  # noqa: DTZ001  # the fault that the test is about


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_a_fault_before_a_verb_means_that_nothing_was_done(pannier_application: JobQueues) -> None:
    """So often as was asked for, then the storage works."""
    storage = FaultyStorage()
    storage.before["store_jobs"] = Fault(times=2)
    async with pannier_application.on_storage(storage) as jobs:
        for _ in range(2):
            with pytest.raises(StorageError, match="the storage is down"):
                await jobs.queue_job(Charge(1))
        assert await queued_commands(jobs, Charge) == []
        await jobs.queue_job(Charge(1))
        assert await queued_commands(jobs, Charge) == [Charge(1)]
    assert storage.calls["store_jobs"] == 3


async def test_a_fault_after_a_verb_is_a_lost_reply(pannier_application: JobQueues) -> None:
    """What was asked for is done, and whoever asked doesn't know; until the fault is taken away."""
    storage = FaultyStorage()
    storage.after["store_jobs"] = Fault(error=ConnectionResetError("gone"))
    async with pannier_application.on_storage(storage) as jobs:
        with pytest.raises(ConnectionResetError):
            await jobs.queue_job(Charge(1), idempotency_key="once")
        del storage.after["store_jobs"]
        await jobs.queue_job(Charge(1), idempotency_key="once")
        assert await queued_commands(jobs, Charge) == [Charge(1)]


def test_trouble_with_what_is_no_verb_is_refused() -> None:
    """A slip would make a test that proves nothing."""
    with pytest.raises(UsageError, match=r"no verb 'store_job' \(verbs: .*store_jobs"):
        FaultyStorage().before["store_job"] = Fault()


# -- without an event loop ---------------------------------------------------------------------------------------------


def test_all_of_it_works_without_an_event_loop(pannier_jobs: JobQueues, shop: Shop) -> None:
    """By `jobs.sync`, which the fixture closes."""
    pannier_jobs.sync.queue_job(Charge(5))
    assert blocking.queued_commands(pannier_jobs, Charge) == [Charge(5)]
    assert [job.priority for job in blocking.queued_jobs(pannier_jobs, Charge)] == [0]
    assert len(blocking.drain(pannier_jobs)) == 2
    assert blocking.run_due_jobs(pannier_jobs) == []
    assert blocking.run_inline(pannier_jobs, Charge(6)) == 6
    assert shop.charged == [Charge(5), Charge(6)]
