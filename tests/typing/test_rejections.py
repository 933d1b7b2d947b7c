"""What a user's type checker refuses. Each line below is an error, or its ignore would be one."""

from typing import TYPE_CHECKING

from attrs import frozen

from pannier import Command, JobContext, JobQueues, JobResult, TrackableJob


@frozen
class Resize(Command[str]):
    """Has a result."""

    path: str


@frozen
class Crunch(TrackableJob[JobResult[int]]):
    """Shows its result while it comes into being."""


def test_the_ignores_below_are_looked_at_by_the_type_checkers() -> None:
    """`warn_unused_ignores` makes each of them an assertion; at run time there is nothing to do."""
    assert not TYPE_CHECKING


if TYPE_CHECKING:
    from uuid import UUID

    jobs = JobQueues("memory://")

    @jobs.handler()  # type: ignore[arg-type]
    async def gives_another_result(command: Resize, job: JobContext[str]) -> int:
        return 1

    @jobs.handler()  # type: ignore[arg-type]
    async def takes_too_much(command: Resize, job: JobContext[str], more: int) -> str:
        return ""

    @jobs.handler()  # type: ignore[type-var]
    async def takes_no_command(command: int) -> str:
        return ""

    jobs.handler(max_concurrency="3")  # type: ignore[arg-type]
    jobs.handler(max_concurency=3)  # type: ignore[call-arg]

    async def wrong_use(tracking_id: UUID) -> None:
        """Each line asks for something that is not there."""
        await jobs.queue_job("Resize")  # type: ignore[arg-type]
        number: int = await jobs.execute(Resize("cat.png"))  # type: ignore[arg-type]
        jobs.sync.queue_job(Resize("cat.png"), priority="high")  # type: ignore[arg-type]
        await jobs.tracker(Resize).store_job_result(tracking_id, "cat")  # type: ignore[misc, arg-type]
        await jobs.tracker(Resize).store_job_result(tracking_id, JobResult[str](3))  # type: ignore[misc, arg-type]
        await jobs.tracker(Crunch).store_job_result(tracking_id, JobResult[str](3))  # type: ignore[arg-type]
        jobs.sync.tracker(Resize).store_job_result(tracking_id, "cat")  # type: ignore[misc, arg-type]
        jobs.sync.tracker(Crunch).store_job_result(tracking_id, "cat")  # type: ignore[arg-type]
        text: str = jobs.sync.tracker(Crunch).wait_for_result(tracking_id)  # type: ignore[assignment]
        del text
        del number
