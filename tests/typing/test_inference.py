"""What a user's type checker infers. mypy and pyright read this file; pytest only imports it."""

from typing import assert_type
from uuid import UUID

from attrs import frozen

from pannier import Command, JobContext, JobQueues, JobResult, JobTracker, TrackableJob


@frozen
class Resize(Command[str]):
    """Has a result."""

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


def test_a_context_knows_the_result_that_it_works_for() -> None:
    """A handler whose context and result disagree is refused by the checkers; this one is not."""

    async def resize(command: Resize, job: JobContext[str]) -> str:
        return f"{command.path} {job.attempt}"

    JobQueues("memory://").handler()(resize)
