"""What a user's type checker infers. mypy and pyright read this file; pytest only imports it."""

from typing import assert_type
from uuid import UUID

from attrs import frozen

from pannier import Cancellation, Command, JobContext, JobProgress, JobQueues, JobResult, JobTracker, TrackableJob
from pannier.sync import SyncJobTracker


@frozen
class Resize(Command[str]):
    """Has a result."""

    path: str


@frozen
class Shrink(Command[None]):
    """Has a field."""

    path: str


@frozen
class Ping(Command[None]):
    """Has none."""


@frozen
class Crunch(TrackableJob[JobResult[int]]):
    """Shows its result while it comes into being."""


async def results_are_those_that_commands_declare(jobs: JobQueues, tracking_id: UUID) -> None:
    """`execute`, `get_job_result` and `wait_for_result` give the R of a `Command[R]`."""
    assert_type(await jobs.execute(Resize("cat.png")), str)
    assert_type(jobs.tracker(Resize), JobTracker[Resize])
    assert_type(await jobs.tracker(Resize).get_job_result(tracking_id), str | None)
    assert_type(await jobs.tracker(Resize).wait_for_result(tracking_id), str)
    assert_type(await jobs.tracker(Crunch).get_job_result(tracking_id), JobResult[int] | None)
    assert_type(await jobs.queue_job(Ping()), UUID)


def the_blocking_api_gives_the_same(jobs: JobQueues, tracking_id: UUID) -> None:
    """`jobs.sync` keeps every signature."""
    assert_type(jobs.sync.execute(Resize("cat.png")), str)
    assert_type(jobs.sync.queue_job(Resize("cat.png")), UUID)
    assert_type(jobs.sync.tracker(Resize), SyncJobTracker[Resize])
    assert_type(jobs.sync.tracker(Resize).get_job_result(tracking_id), str | None)
    assert_type(jobs.sync.tracker(Resize).wait_for_result(tracking_id), str)
    assert_type(jobs.sync.tracker(Crunch).get_job_result(tracking_id), JobResult[int] | None)
    assert_type(jobs.sync.tracker(Crunch).store_job_result(tracking_id, JobResult[int](3)), bool)
    assert_type(jobs.sync.tracker(Resize).get_job_progress(tracking_id), JobProgress | None)
    assert_type(jobs.sync.tracker(Resize).cancel_job(tracking_id), Cancellation)


async def a_tracker_stores_what_its_command_declares(jobs: JobQueues, tracking_id: UUID) -> None:
    """`store_job_result` takes the result of a `TrackableJob`."""
    assert_type(await jobs.tracker(Crunch).store_job_result(tracking_id, JobResult(3)), bool)
    assert_type(await jobs.tracker(Crunch).store_job_result(tracking_id, JobResult[int](3, 1, "", 7)), bool)


def test_a_context_knows_the_result_that_it_works_for() -> None:
    """A handler whose context and result disagree is refused by the checkers; this one is not."""

    async def resize(command: Resize, job: JobContext[str]) -> str:
        return f"{command.path} {job.attempt}"

    JobQueues("memory://").handler()(resize)


def test_a_lambda_may_choose_a_key() -> None:
    """Beside a handler its argument is not known to be of any type; beside a command it is."""
    jobs = JobQueues("memory://")
    jobs.declare(Resize, idempotency_key=lambda command: command.path)

    @jobs.handler(idempotency_key=lambda command: command.path)
    async def shrink(command: Shrink) -> None:
        """Do nothing."""

    assert jobs.create_job(Shrink("cat.png")).idempotency_key == "cat.png"
