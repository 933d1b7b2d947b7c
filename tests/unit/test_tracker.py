"""Trackers: results, progress, and what is said where there is none."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from attrs import frozen

from pannier import Command, JobNotFoundError, JobQueues, JobResult, JobStatus, JobTracker, TrackableJob
from pannier.errors import NotRunningHereError, WrongResultTypeError


@frozen
class Ping(Command[None]):
    """Has no result."""


@frozen
class Work(Command[str]):
    """Has one."""


@frozen
class Number(Command[int]):
    """Has another."""


@frozen
class Crunch(TrackableJob[JobResult[int]]):
    """Shows its result while it comes into being."""


def test_a_handler_written_as_the_original_writes_it_shows_its_steps_and_then_its_result() -> None:
    """`get_job_result` of a `TrackableJob[JobResult[int]]` gives the steps first, and the result at the end."""
    jobs = JobQueues("memory://")
    stored, go_on = asyncio.Event(), asyncio.Event()

    @jobs.handler()
    class Crunching:
        def __init__(self, tracker: JobTracker[Crunch]) -> None:
            self._tracker = tracker

        async def execute(self, command: Crunch) -> JobResult[int]:
            result = JobResult[int](total_steps=100)
            result.current_step, result.current_status = 40, "crunching"
            await self._tracker.store_job_result(command.tracking_id, result)
            stored.set()
            await go_on.wait()
            result.current_step, result.result = 100, 7
            return result

    async def main() -> None:
        async with jobs.worker():
            tracker, tracking_id = jobs.tracker(Crunch), await jobs.queue_job(Crunch())
            assert await tracker.get_job_result(tracking_id) is None
            await stored.wait()
            shown = await tracker.get_job_result(tracking_id)
            assert shown == JobResult(100, 40, "crunching", None)
            assert shown.progress_percentage == 40
            go_on.set()
            assert await tracker.wait_for_result(tracking_id) == JobResult(100, 100, "crunching", 7)
            progress = await tracker.get_job_progress(tracking_id)
            assert progress is not None
            assert (progress.status, progress.percentage) == (JobStatus.SUCCEEDED, 100)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_command_without_a_result_has_none_to_get() -> None:
    """E12: a clear error rather than a None that may mean anything."""
    jobs = JobQueues("memory://")
    jobs.declare(Ping)

    async def main() -> None:
        async with jobs:
            with pytest.raises(WrongResultTypeError, match=r"it is a Command\[None\]"):
                await jobs.tracker(Ping).get_job_result(uuid4())

    asyncio.run(main())


def test_a_result_of_another_command_is_refused() -> None:
    """E12: what is stored is checked against what the tracker's command declares."""
    jobs = JobQueues("memory://")
    jobs.declare(Number)

    @jobs.handler()
    async def work(command: Work) -> str:
        return "text"

    async def main() -> None:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work())
            await jobs.tracker(Work).wait_for_result(tracking_id)
            with pytest.raises(WrongResultTypeError, match="is not Number's"):
                await jobs.tracker(Number).get_job_result(tracking_id)

    asyncio.run(main())


def test_a_result_is_stored_by_its_own_handler_only() -> None:
    """Under the lease of the job that runs."""
    jobs = JobQueues("memory://")
    jobs.declare(Crunch)

    async def main() -> None:
        async with jobs:
            with pytest.raises(NotRunningHereError, match="only its own handler"):
                await jobs.tracker(Crunch).store_job_result(uuid4(), JobResult[int]())

    asyncio.run(main())


def test_only_a_trackable_job_has_a_result_before_its_end() -> None:
    """Whoever does not run a type checker gets a clear error."""
    jobs = JobQueues("memory://")
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            with pytest.raises(WrongResultTypeError, match="is no TrackableJob"):
                await jobs.tracker(Work).store_job_result(uuid4(), "text")  # type: ignore[misc, arg-type]

    asyncio.run(main())


def test_an_unknown_job_is_told_from_one_without_a_result() -> None:
    """None to who asks, an error to who waits."""
    jobs = JobQueues("memory://")
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            tracker = jobs.tracker(Work)
            assert await tracker.get_job_result(uuid4()) is None
            assert await tracker.get_job_progress(uuid4()) is None
            with pytest.raises(JobNotFoundError):
                await tracker.wait_for_result(uuid4())

    asyncio.run(main())


def test_waiting_ends_with_its_timeout() -> None:
    """Nobody works on the job."""
    jobs = JobQueues("memory://")
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            tracking_id = await jobs.queue_job(Work())
            with pytest.raises(TimeoutError, match=f"{tracking_id} has not ended within 0:00:00.02"):
                await jobs.tracker(Work).wait_for_result(tracking_id, timeout=timedelta(milliseconds=20))

    asyncio.run(main())
