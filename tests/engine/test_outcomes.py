"""Outcomes: what becomes of a job whose handler returns, raises, is too slow, or is told to stop."""

import asyncio
import threading
from datetime import timedelta

import pytest
from attrs import frozen

from pannier import (
    NO_RETRY,
    Cancellation,
    Command,
    JobCancelledError,
    JobContext,
    JobExpiredError,
    JobFailedError,
    JobQueues,
    JobStatus,
    RetryPolicy,
    StopReason,
    WorkerOptions,
)
from pannier.records import JobRecord, Payload
from tests.engine.conftest import play, until


@frozen
class Work(Command[str]):
    """Does what its handler says."""

    what: str = ""


class Fatal(BaseException):
    """What no handler should raise."""


@pytest.mark.parametrize("error", [ValueError("no"), Fatal("no"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_whatever_a_handler_raises_the_worker_goes_on(jobs: JobQueues, error: BaseException) -> None:
    """E8: the job fails with the reason; the next one runs."""

    @jobs.handler(retry=NO_RETRY)
    async def work(command: Work) -> str:
        if command.what == "raise":
            raise error
        return "fine"

    async def main() -> None:
        async with jobs.worker():
            bad = await jobs.queue_job(Work("raise"))
            with pytest.raises(JobFailedError) as caught:
                await jobs.tracker(Work).wait_for_result(bad)
            assert caught.value.kind.rpartition(".")[2] == type(error).__name__
            good = await jobs.queue_job(Work())
            assert await jobs.tracker(Work).wait_for_result(good) == "fine"

    play(main)


@pytest.mark.parametrize("error", [ValueError("no"), Fatal("no"), SystemExit(3), StopIteration()])
def test_whatever_a_handler_in_a_thread_raises_the_worker_goes_on(jobs: JobQueues, error: BaseException) -> None:
    """E8: the same for a sync handler."""

    @jobs.handler(retry=NO_RETRY)
    def work(command: Work) -> str:
        if command.what == "raise":
            raise error
        return "fine"

    async def main() -> None:
        async with jobs.worker():
            bad = await jobs.queue_job(Work("raise"))
            with pytest.raises(JobFailedError):
                await jobs.tracker(Work).wait_for_result(bad)
            good = await jobs.queue_job(Work())
            assert await jobs.tracker(Work).wait_for_result(good) == "fine"

    play(main)


def test_a_failed_attempt_is_tried_again_until_the_policy_gives_up(jobs: JobQueues) -> None:
    """Attempts are counted, errors kept in order, and the last failure is final."""

    @jobs.handler(retry=RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=1)))
    async def work(command: Work, job: JobContext[str]) -> str:
        raise ValueError(f"attempt {job.attempt}")

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            with pytest.raises(JobFailedError, match="attempt 3"):
                await jobs.tracker(Work).wait_for_result(tracking_id)
            job = await jobs.tracker(Work).get_job(tracking_id)
        assert job is not None
        assert [error.message for error in job.errors] == ["attempt 1", "attempt 2", "attempt 3"]
        assert job.attempt == 3

    play(main)


def test_what_cannot_be_decoded_fails_with_the_reason(jobs: JobQueues) -> None:
    """E8: a payload of another shape is kept as FAILED, and never reaches the handler."""
    reached: list[Work] = []

    @jobs.handler()
    async def work(command: Work) -> str:
        reached.append(command)
        return "fine"

    async def main() -> None:
        async with jobs.worker():
            good = jobs.create_job(Work())
            bad = JobRecord(
                tracking_id=good.tracking_id,
                queue_id=good.queue_id,
                command=Payload({"what": 3}),
                execute_after=good.execute_after,
                expire_on=good.expire_on,
                created_at=good.created_at,
            )
            await jobs.queue_jobs([bad])
            with pytest.raises(JobFailedError, match=r"expected str @ Work\.what"):
                await jobs.tracker(Work).wait_for_result(bad.tracking_id)
            job = await jobs.tracker(Work).get_job(bad.tracking_id)
        assert job is not None
        assert (job.status, job.command) == (JobStatus.FAILED, Payload({"what": 3}))

    play(main)
    assert reached == []


def test_a_result_of_another_type_fails_the_job_for_good(jobs: JobQueues) -> None:
    """E12: a handler that returns what its command does not declare is a fault that no retry can mend."""
    runs: list[int] = []

    @jobs.handler()
    async def work(command: Work) -> str:
        runs.append(1)
        return 7  # type: ignore[return-value]  # the fault that the test is about

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            with pytest.raises(JobFailedError, match="expected str, got int"):
                await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert runs == [1]


def test_an_async_handler_past_its_time_limit_is_cancelled(jobs: JobQueues) -> None:
    """E3: the attempt fails with a time-limit error."""
    told: list[str] = []

    @jobs.handler(time_limit=timedelta(milliseconds=50), retry=NO_RETRY)
    async def work(command: Work) -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        return "late"

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            with pytest.raises(JobFailedError, match=r"time limit of 0\.05 s") as caught:
                await jobs.tracker(Work).wait_for_result(tracking_id)
            assert caught.value.kind == "pannier.errors.TimeLimitExceededError"

    play(main)
    assert told == ["cancelled"]


def test_a_sync_handler_past_its_time_limit_keeps_its_slot_until_it_returns(jobs: JobQueues) -> None:
    """E3: it sees its token; only when its thread has returned is the attempt settled, so two runs never overlap."""
    overlap = threading.Lock()
    overlaps: list[bool] = []

    @jobs.handler(
        time_limit=timedelta(milliseconds=30),
        max_concurrency=1,
        retry=RetryPolicy(max_attempts=2, first_delay=timedelta(0)),
    )
    def work(command: Work, job: JobContext[str]) -> str:
        overlaps.append(not overlap.acquire(blocking=False))
        job.stop.wait(5)
        threading.Event().wait(0.1)
        overlap.release()
        return "late"

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            with pytest.raises(JobFailedError, match="time limit"):
                await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert overlaps == [False, False]


def test_a_cancelled_async_handler_gets_a_cancelled_error(jobs: JobQueues) -> None:
    """E2: the job is CANCELLED at once, the handler hears of it, and it counts as no failure."""
    reasons: list[StopReason | None] = []
    started = asyncio.Event()

    @jobs.handler()
    async def work(command: Work, job: JobContext[str]) -> str:
        started.set()
        try:
            await asyncio.sleep(10)
        finally:
            reasons.append(job.stop.reason)
        return "late"

    async def main() -> None:
        async with jobs.worker():
            tracker, tracking_id = jobs.tracker(Work), await jobs.queue_job(Work())
            await started.wait()
            assert await tracker.cancel_job(tracking_id) is Cancellation.CANCELLED
            with pytest.raises(JobCancelledError):
                await tracker.wait_for_result(tracking_id)
            await until(lambda: reasons)
            job = await tracker.get_job(tracking_id)
        assert job is not None
        assert (job.status, job.errors) == (JobStatus.CANCELLED, ())

    play(main)
    assert reasons == [StopReason.CANCELLED]


def test_a_handler_that_ignores_its_cancellation_leaves_the_job_cancelled(jobs: JobQueues) -> None:
    """E2: what it returns comes too late."""
    started, ended = asyncio.Event(), asyncio.Event()

    @jobs.handler()
    async def work(command: Work) -> str:
        started.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.set()
        return "stubborn"

    async def main() -> None:
        async with jobs.worker():
            tracker, tracking_id = jobs.tracker(Work), await jobs.queue_job(Work())
            await started.wait()
            await tracker.cancel_job(tracking_id)
            await ended.wait()
            await asyncio.sleep(0.05)
            job = await tracker.get_job(tracking_id)
        assert job is not None
        assert (job.status, job.result) == (JobStatus.CANCELLED, None)

    play(main)


def test_a_cancelled_sync_handler_sees_its_token(jobs: JobQueues) -> None:
    """E2: a thread can't be interrupted, so it looks."""
    seen: list[bool] = []
    started = threading.Event()

    @jobs.handler()
    def work(command: Work, job: JobContext[str]) -> str:
        started.set()
        seen.append(job.stop.wait(10))
        return "stopped"

    async def main() -> None:
        async with jobs.worker():
            tracker, tracking_id = jobs.tracker(Work), await jobs.queue_job(Work())
            await asyncio.to_thread(started.wait)
            await tracker.cancel_job(tracking_id)
            await until(lambda: seen)
            job = await tracker.get_job(tracking_id)
        assert job is not None
        assert job.status is JobStatus.CANCELLED

    play(main)
    assert seen == [True]


def test_a_pending_job_that_is_cancelled_never_runs(jobs: JobQueues) -> None:
    """Cancelling before the start is final."""
    runs: list[int] = []

    @jobs.handler()
    async def work(command: Work) -> str:
        runs.append(1)
        return "ran"

    async def main() -> None:
        async with jobs:
            tracker, tracking_id = jobs.tracker(Work), await jobs.queue_job(Work())
            await tracker.cancel_job(tracking_id)
            async with jobs.worker():
                assert await tracker.wait_for_result(await jobs.queue_job(Work())) == "ran"
            with pytest.raises(JobCancelledError):
                await tracker.wait_for_result(tracking_id)

    play(main)
    assert runs == [1]


def test_a_job_that_expires_before_its_start_never_runs(jobs: JobQueues) -> None:
    """It becomes EXPIRED, and who waits for it hears so."""

    @jobs.handler()
    async def work(command: Work) -> str:
        return "ran"

    async def main() -> None:
        async with jobs:
            job = jobs.create_job(Work())
            soon = job.execute_after + timedelta(milliseconds=20)
            tracking_id = await jobs.queue_job(Work(), expire_on=soon)
            await asyncio.sleep(0.03)
            async with jobs.worker(WorkerOptions(purge_every=timedelta(milliseconds=20))):
                with pytest.raises(JobExpiredError):
                    await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)
