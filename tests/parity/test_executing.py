"""Executing, following and cancelling beside those of FastEndpoints: lines F43 to F80 of the table in docs/."""

import ast
import asyncio
import logging
from datetime import timedelta
from uuid import uuid4

import pytest
from attrs import frozen

from pannier import (
    NO_RETRY,
    Cancellation,
    Command,
    JobContext,
    JobEvent,
    JobEventKind,
    JobFailedError,
    JobNotFoundError,
    JobQueues,
    JobResult,
    JobStatus,
    JobTracker,
    RetryPolicy,
    TrackableJob,
    hookimpl,
)
from pannier.codec import ConverterCodec
from pannier.errors import NotSupportedError, WrongResultTypeError
from pannier.records import Payload
from pannier.storage import Capabilities
from tests.engine.conftest import QUICK, play, until
from tests.engine.troubled import TroubledStorage


@frozen
class Work(Command[str]):
    """Has a result."""

    text: str = "work"


@frozen
class Ping(Command[None]):
    """Has none."""


@frozen
class Crunch(TrackableJob[JobResult[int]]):
    """Shows its steps."""


class Witness:
    """Remembers what happened."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []

    @hookimpl
    def pannier_job_event(self, event: JobEvent) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[JobEventKind]:
        """What happened, in order."""
        return [event.kind for event in self.events]


@pytest.fixture
def jobs() -> JobQueues:
    """Job queues without a command, with quick retries."""
    return JobQueues("memory://", defaults=QUICK)


def test_f49_the_result_and_the_end_are_one_step() -> None:
    """There is no instant at which the one is stored and the other is not."""
    storage = TroubledStorage()
    jobs = JobQueues(storage, defaults=QUICK)

    @jobs.handler()
    async def work(command: Work) -> str:
        return command.text

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            await jobs.tracker(Work).wait_for_result(tracking_id)
            job = await storage.get_job(tracking_id)
            assert job is not None
            assert (job.status, job.result) == (JobStatus.SUCCEEDED, Payload("work"))
        assert storage.calls["settle_jobs"] == 1

    play(main)


def test_f50_failures_are_tried_again_with_growing_pauses(jobs: JobQueues) -> None:
    """The original tries again at once, until the job expires; here a policy says when, and how often."""
    attempts: list[int] = []

    @jobs.handler(retry=RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=1)))
    async def work(command: Work, job: JobContext[str]) -> str:
        attempts.append(job.attempt)
        raise ValueError("no")

    async def main() -> None:
        async with jobs.worker():
            with pytest.raises(JobFailedError, match="ValueError: no"):
                await jobs.tracker(Work).wait_for_result(await jobs.queue_job(Work()))

    play(main)
    assert attempts == [1, 2, 3]


class Impatient:
    """Has its own idea of when to try again."""

    @hookimpl
    def pannier_retry_delay(self, error: Exception) -> timedelta | None:
        return timedelta(0) if isinstance(error, ConnectionError) else None


def test_f51_a_hook_is_asked_on_failure() -> None:
    """The original's OnHandlerExecutionFailureAsync: it moves the next attempt."""
    hourly = RetryPolicy(max_attempts=2, first_delay=timedelta(hours=1), max_delay=timedelta(hours=1))
    jobs = JobQueues("memory://", plugins=[Impatient()])

    @jobs.handler(retry=hourly)
    async def work(command: Work, job: JobContext[str]) -> str:
        if job.attempt == 1:
            raise ConnectionError("hung up")
        return command.text

    async def main() -> None:
        async with jobs.worker():
            assert await jobs.tracker(Work).wait_for_result(await jobs.queue_job(Work())) == "work"

    play(main)


def test_f52_what_was_stored_last_stays_with_a_failed_job(jobs: JobQueues) -> None:
    """Whoever looks at the failure sees how far it got."""

    @jobs.handler(retry=NO_RETRY)
    class Crunching:
        def __init__(self, tracker: JobTracker[Crunch]) -> None:
            self._tracker = tracker

        async def execute(self, command: Crunch) -> JobResult[int]:
            await self._tracker.store_job_result(command.tracking_id, JobResult[int](10, 4, "halfway"))
            raise ValueError("no")

    async def main() -> None:
        async with jobs.worker():
            tracker, tracking_id = jobs.tracker(Crunch), await jobs.queue_job(Crunch())
            with pytest.raises(JobFailedError):
                await tracker.wait_for_result(tracking_id)
            assert await tracker.get_job_result(tracking_id) == JobResult(10, 4, "halfway")

    play(main)


class WithoutResults(TroubledStorage):
    """A storage whose server gives no results."""

    @property
    def capabilities(self) -> Capabilities:
        """Less than its type has."""
        return Capabilities(durable=False, shared=False, atomic_batches=True, withheld=frozenset({"results", "notify"}))


def test_f55_jobs_complete_without_the_results_add_on(caplog: pytest.LogCaptureFixture) -> None:
    """A command with a result as well as one without; the loss is said when the worker starts."""
    jobs = JobQueues(WithoutResults(), defaults=QUICK)

    @jobs.handler()
    async def work(command: Work) -> str:
        return command.text

    @jobs.handler()
    async def ping(command: Ping) -> None:
        return None

    async def main() -> None:
        async with jobs.worker():
            ids = [await jobs.queue_job(Work()), await jobs.queue_job(Ping())]
            for tracking_id in ids:
                await until(lambda tracking_id=tracking_id: is_done(jobs, tracking_id))  # type: ignore[misc]

    with caplog.at_level(logging.WARNING, "pannier"):
        play(main)
    assert "keeps no results: those of 'Work' are lost" in caplog.text


async def is_done(jobs: JobQueues, tracking_id: object) -> bool:
    """Whether the job has succeeded."""
    job = await jobs.storage.get_job(tracking_id)  # type: ignore[arg-type]
    return job is not None and job.status is JobStatus.SUCCEEDED


def test_f58_there_is_a_tracker_for_handlers_and_one_for_callers(jobs: JobQueues) -> None:
    """Injected into a class handler, or got from the job queues; both follow, cancel and store."""
    injected: list[JobTracker[Crunch]] = []

    @jobs.handler()
    class Crunching:
        def __init__(self, tracker: JobTracker[Crunch]) -> None:
            injected.append(tracker)

        async def execute(self, command: Crunch) -> JobResult[int]:
            return JobResult(1, 1, None, 7)

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Crunch())
            done = await jobs.tracker(Crunch).wait_for_result(tracking_id)
            assert await injected[0].get_job_result(tracking_id) == done

    play(main)


def test_f59_there_is_no_result_until_there_is_one(jobs: JobQueues) -> None:
    """None, while the job waits."""
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            assert await jobs.tracker(Work).get_job_result(await jobs.queue_job(Work())) is None

    play(main)


def test_f61_a_storage_without_results_is_a_clear_error() -> None:
    """It says which storage, and what else to ask."""
    jobs = JobQueues(WithoutResults())
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            with pytest.raises(NotSupportedError, match="keeps no results and no progress"):
                await jobs.tracker(Work).get_job_result(uuid4())

    play(main)


def test_f62_an_unknown_id_has_no_result_and_can_not_be_waited_for(jobs: JobQueues) -> None:
    """The original leaves that to each provider."""
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            assert await jobs.tracker(Work).get_job_result(uuid4()) is None
            with pytest.raises(JobNotFoundError):
                await jobs.tracker(Work).wait_for_result(uuid4())
            assert await jobs.tracker(Work).cancel_job(uuid4()) is Cancellation.NOT_FOUND

    play(main)


@pytest.mark.parametrize(
    ("steps", "of", "percent", "complete"), [(0, 8, 0, False), (1, 8, 12, False), (7, 8, 87, False), (8, 8, 100, True)]
)
def test_f64_a_job_result_tells_how_far_it_is(steps: int, of: int, percent: int, *, complete: bool) -> None:
    """In whole percent, rounded down; complete with its steps."""
    result = JobResult[int](total_steps=of, current_step=steps)
    assert (result.progress_percentage, result.is_complete) == (percent, complete)


def test_f65_a_job_result_without_steps_has_no_percentage() -> None:
    """It is complete with its result."""
    assert JobResult(result=7).is_complete
    with pytest.raises(ValueError, match="needs total_steps"):
        _ = JobResult[int]().progress_percentage


def test_f67_a_cancel_may_be_repeated(jobs: JobQueues) -> None:
    """The second one finds its effect."""
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            tracking_id = await jobs.queue_job(Work())
            assert await jobs.tracker(Work).cancel_job(tracking_id) is Cancellation.CANCELLED
            assert await jobs.tracker(Work).cancel_job(tracking_id) is Cancellation.CANCELLED

    play(main)


def test_f68_a_cancelled_run_is_no_failure() -> None:
    """No retry, no error kept, no failure told."""
    witness, running = Witness(), asyncio.Event()
    jobs = JobQueues("memory://", defaults=QUICK, plugins=[witness])

    @jobs.handler()
    async def work(command: Work) -> str:
        running.set()
        await asyncio.Event().wait()
        return command.text

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            await running.wait()
            await jobs.tracker(Work).cancel_job(tracking_id)
            await until(lambda: JobEventKind.CANCELLED in witness.kinds)
            job = await jobs.storage.get_job(tracking_id)
            assert job is not None
            assert (job.status, job.errors, job.attempt) == (JobStatus.CANCELLED, (), 1)

    play(main)
    assert {JobEventKind.FAILED, JobEventKind.RETRIED}.isdisjoint(witness.kinds)


def test_f70_a_running_job_of_another_instance_is_cancelled(tmp_path: object) -> None:
    """The original signals its own process only."""
    url = f"sqlite:///{tmp_path}/jobs.db?synchronous=normal"
    here, there = JobQueues(url, defaults=QUICK), JobQueues(url)
    there.declare(Work)
    running, stopped = asyncio.Event(), asyncio.Event()

    @here.handler()
    async def work(command: Work) -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return command.text

    async def main() -> None:
        async with here.worker(), there:
            tracking_id = await there.queue_job(Work())
            await running.wait()
            assert await there.tracker(Work).cancel_job(tracking_id) is Cancellation.CANCELLED
            await stopped.wait()

    play(main)


def test_f73_how_commands_are_written_is_the_users_choice() -> None:
    """The original's SetCommand and GetCommand: a codec, for all commands or one handler."""

    class Bytes:
        """Writes bytes, as MessagePack would."""

        def __init__(self) -> None:
            self._inner = ConverterCodec()

        def encode(self, value: object, declared: object) -> Payload:
            data = self._inner.encode(value, declared).data
            return Payload(repr(data).encode(), encoding="repr")

        def decode(self, payload: Payload, declared: object) -> object:
            assert isinstance(payload.data, bytes)
            data: object = ast.literal_eval(payload.data.decode())
            return self._inner.decode(Payload(data), declared)  # type: ignore[arg-type]  # it checks itself

    jobs = JobQueues("memory://")

    @jobs.handler(codec=Bytes())
    async def work(command: Work) -> str:
        return command.text

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            assert await jobs.tracker(Work).wait_for_result(tracking_id) == "work"
            job = await jobs.storage.get_job(tracking_id)
            assert job is not None
            assert (job.command.data, job.command.encoding) == (b"{'text': 'work'}", "repr")

    play(main)


def test_f63_only_a_job_result_may_be_stored_before_the_end(jobs: JobQueues) -> None:
    """Of a command that is a `TrackableJob`; anything else is a clear error, to type checkers as well."""
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            with pytest.raises(WrongResultTypeError, match="is no TrackableJob"):
                await jobs.tracker(Work).store_job_result(uuid4(), "half")  # type: ignore[misc, arg-type]

    play(main)


def test_f76_what_happens_is_logged_with_the_job(jobs: JobQueues, caplog: pytest.LogCaptureFixture) -> None:
    """Through the standard library; each line about a job carries its id, queue and attempt."""

    @jobs.handler(retry=NO_RETRY)
    async def work(command: Work) -> str:
        raise ValueError("no")

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            with pytest.raises(JobFailedError):
                await jobs.tracker(Work).wait_for_result(tracking_id)
            await until(lambda: "failed for good" in caplog.text)
            [line] = [record for record in caplog.records if "failed for good" in record.getMessage()]
            found = vars(line)
            assert (found["tracking_id"], found["queue_id"], found["attempt"]) == (str(tracking_id), "Work", 1)

    with caplog.at_level(logging.INFO, "pannier"):
        play(main)
