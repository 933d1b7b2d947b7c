"""Stopping: no new claims, a grace period, then what still runs is given back, and no attempt is burnt (E5)."""

import asyncio
import threading
from datetime import timedelta

import pytest
from attrs import frozen

from pannier import Command, JobContext, JobQueues, JobStatus, StopReason, WorkerOptions
from pannier.inspection import JobFilter
from pannier.records import JobRecord
from pannier.worker.starting import NAME as ATTEMPT
from tests.engine.conftest import play, until
from tests.engine.troubled import Fault, TroubledStorage

NO_GRACE = WorkerOptions(shutdown_grace=timedelta(0), storage_retry_delay=timedelta(milliseconds=20))


@frozen
class Work(Command[str]):
    """Waits for its gate, if it is to."""

    text: str = ""


async def stored(jobs: JobQueues) -> list[JobRecord]:
    """Return every job of the queue of `Work`."""
    inspector = jobs.session.inspector
    assert inspector is not None
    page = await inspector.find_jobs(JobFilter(), limit=1_000)
    return list(page.jobs)


def test_a_running_handler_gets_the_grace_period(jobs: JobQueues) -> None:
    """E5: what ends in time has succeeded."""
    started = asyncio.Event()

    @jobs.handler()
    async def work(command: Work) -> str:
        started.set()
        await asyncio.sleep(0.1)
        return "in time"

    async def main() -> None:
        async with jobs:
            async with jobs.worker(WorkerOptions(shutdown_grace=timedelta(seconds=5))):
                tracking_id = await jobs.queue_job(Work())
                await started.wait()
            assert await jobs.tracker(Work).get_job_result(tracking_id) == "in time"

    play(main)


def test_a_handler_that_outlasts_the_grace_period_is_cancelled_and_its_job_released(jobs: JobQueues) -> None:
    """E5: the job is pending again at once, in its old place, and its attempt does not count."""
    started = asyncio.Event()
    reasons: list[StopReason | None] = []

    @jobs.handler()
    async def work(command: Work, job: JobContext[str]) -> str:
        started.set()
        try:
            await asyncio.sleep(10)
        finally:
            reasons.append(job.stop.reason)
        return "late"

    async def main() -> None:
        async with jobs:
            async with jobs.worker(NO_GRACE):
                tracking_id = await jobs.queue_job(Work())
                await started.wait()
            job = await jobs.tracker(Work).get_job(tracking_id)
        assert job is not None
        assert (job.status, job.attempt, job.lapses, job.errors) == (JobStatus.PENDING, 0, 0, ())
        assert job.dequeue_after == job.execute_after

    play(main)
    assert reasons == [StopReason.SHUTDOWN]


def test_a_sync_handler_that_looks_at_its_token_is_released(jobs: JobQueues) -> None:
    """E5: a thread that stops in time by raising gives its job back."""
    started = threading.Event()

    @jobs.handler()
    def work(command: Work, job: JobContext[str]) -> str:
        started.set()
        if job.stop.wait(10):
            raise InterruptedError
        return "late"

    async def main() -> None:
        async with jobs:
            async with jobs.worker(NO_GRACE):
                tracking_id = await jobs.queue_job(Work())
                await asyncio.to_thread(started.wait)
            job = await jobs.tracker(Work).get_job(tracking_id)
        assert job is not None
        assert (job.status, job.attempt, job.errors) == (JobStatus.PENDING, 0, ())

    play(main)


def test_a_handler_that_ends_by_itself_when_told_to_stop_has_succeeded(jobs: JobQueues) -> None:
    """E5: a result is a result, also during shutdown."""
    started = asyncio.Event()

    @jobs.handler()
    async def work(command: Work) -> str:
        started.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "in a hurry"
        return "late"

    async def main() -> None:
        async with jobs:
            async with jobs.worker(NO_GRACE):
                tracking_id = await jobs.queue_job(Work())
                await started.wait()
            assert await jobs.tracker(Work).get_job_result(tracking_id) == "in a hurry"

    play(main)


def test_a_job_whose_handler_has_not_ended_is_not_released(jobs: JobQueues, monkeypatch: pytest.MonkeyPatch) -> None:
    """E5: its lease lapses instead, so that nobody starts it beside the thread that still runs."""
    monkeypatch.setattr("pannier.worker.worker.CANCEL_GRACE", timedelta(milliseconds=50))
    started, gate = threading.Event(), threading.Event()

    @jobs.handler()
    def work(command: Work) -> str:
        started.set()
        gate.wait(10)
        return "never heard"

    async def main() -> None:
        async with jobs:
            async with jobs.worker(NO_GRACE):
                tracking_id = await jobs.queue_job(Work())
                await asyncio.to_thread(started.wait)
            job = await jobs.tracker(Work).get_job(tracking_id)
            gate.set()
        assert job is not None
        assert (job.status, job.attempt) == (JobStatus.RUNNING, 1)

    play(main)


def test_what_was_claimed_ahead_is_released(jobs: JobQueues) -> None:
    """E5: jobs that have not started are pending again at once."""
    gate = asyncio.Event()
    runs: list[str] = []

    @jobs.handler(max_concurrency=2)
    async def work(command: Work) -> str:
        runs.append(command.text)
        if len(runs) > 50:
            await gate.wait()
        return command.text

    async def main() -> None:
        async with jobs:
            async with jobs.worker(NO_GRACE):
                await jobs.queue_jobs([Work(str(number)) for number in range(200)])
                await until(lambda: len(runs) >= 52)
                claimed = [job for job in await stored(jobs) if job.fence > 0]
            left = [job for job in await stored(jobs) if not job.is_complete]
        assert len(claimed) > 52
        assert {job.status for job in left} == {JobStatus.PENDING}
        assert {(job.attempt, job.lapses) for job in left} == {(0, 0)}

    play(main)


def test_what_the_last_claim_brings_is_released(troubled: JobQueues, storage: TroubledStorage) -> None:
    """E5: a claim that is under way when the worker stops leases nothing for longer than that."""
    asked, gate = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    @troubled.handler()
    async def work(command: Work) -> str:
        runs.append(command.text)
        return command.text

    async def slow_reply() -> None:
        asked.set()
        await gate.wait()

    async def main() -> None:
        async with troubled:
            tracking_id = await troubled.queue_job(Work())
            storage.after["claim_jobs"] = slow_reply
            async with troubled.worker(NO_GRACE):
                await asked.wait()
                asyncio.get_running_loop().call_later(0.1, gate.set)
            job = await troubled.tracker(Work).get_job(tracking_id)
        assert job is not None
        assert (job.status, job.attempt, job.fence) == (JobStatus.PENDING, 0, 1)

    play(main)
    assert runs == []


def test_outcomes_are_settled_before_the_worker_is_left(troubled: JobQueues, storage: TroubledStorage) -> None:
    """E5: the drain is awaited, also while the storage is faulty."""
    storage.before["settle_jobs"] = Fault(3)
    started = asyncio.Event()

    @troubled.handler()
    async def work(command: Work) -> str:
        started.set()
        return "done"

    async def main() -> None:
        async with troubled:
            async with troubled.worker(NO_GRACE):
                tracking_id = await troubled.queue_job(Work())
                await started.wait()
            assert await troubled.tracker(Work).get_job_result(tracking_id) == "done"

    play(main)


def test_nothing_is_claimed_once_the_worker_stops(troubled: JobQueues, storage: TroubledStorage) -> None:
    """E5: jobs that are queued during the grace period wait for another worker."""
    started = asyncio.Event()

    @troubled.handler()
    async def work(command: Work) -> str:
        started.set()
        await asyncio.sleep(0.1)
        await troubled.queue_job(Work("later"))
        await asyncio.sleep(0.1)
        return "done"

    async def main() -> None:
        async with troubled:
            async with troubled.worker(WorkerOptions(shutdown_grace=timedelta(seconds=5))):
                await troubled.queue_job(Work())
                await started.wait()
            assert len(storage.settlements) == 1

    play(main)


def test_stopping_twice_at_once_leaves_nothing_running(jobs: JobQueues) -> None:
    """A second cancellation, as of an impatient Ctrl-C, cuts the grace short and still ends every part."""
    started = asyncio.Event()

    @jobs.handler()
    async def work(command: Work) -> str:
        started.set()
        await asyncio.sleep(10)
        return "late"

    async def work_until_cancelled() -> None:
        async with jobs.worker(WorkerOptions(shutdown_grace=timedelta(seconds=60))):
            await jobs.queue_job(Work())
            await asyncio.sleep(60)

    async def main() -> None:
        before = asyncio.all_tasks()
        working = asyncio.create_task(work_until_cancelled())
        await started.wait()
        working.cancel()
        await asyncio.sleep(0.05)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        left = {task.get_name() for task in asyncio.all_tasks() - before} - {ATTEMPT}  # the handler's is the loop's
        assert not any(name.startswith("pannier ") for name in left)
        assert not jobs.is_open

    play(main)
