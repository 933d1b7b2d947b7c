"""Immediate execution: a command's handler and all middleware, here and now, without storage."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from attrs import frozen

from pannier.commands import Command, JobResult, set_tracking_id
from pannier.context import CURRENT_JOB, JobContext, StopToken
from pannier.errors import UsageError
from pannier.registry import Registration

if TYPE_CHECKING:
    from pannier.queues import JobQueues


@frozen
class _Immediate:
    """The execution that progress belongs to: it reaches nobody but the caller's callback."""

    tracking_id: UUID
    on_progress: Callable[[JobResult[object]], None] | None

    async def report(self, progress: JobResult[object]) -> bool:
        if self.on_progress is not None:
            self.on_progress(progress)
        return True


async def execute_now(
    queues: "JobQueues",
    registration: Registration,
    command: Command[object],
    *,
    on_progress: Callable[[JobResult[object]], None] | None,
) -> object:
    """
    Execute *command* and return its handler's result.

    Raises:
        UsageError: The command is declared, but has no handler here.
        BaseException: Whatever the handler or a middleware raises.
    """
    if registration.handler is None:
        raise UsageError(f"{registration.command.__qualname__} is declared here, but has no handler to execute it")
    tracking_id = uuid4()
    set_tracking_id(command, tracking_id)
    reporter = _Immediate(tracking_id, on_progress)
    job: JobContext[object] = JobContext(
        tracking_id=tracking_id,
        queue_id=registration.queue_id,
        attempt=1,
        worker_id=None,
        expire_on=None,
        metadata={},
        stop=StopToken(),
        queues=queues,
        reporter=reporter,
    )
    token = CURRENT_JOB.set(reporter)
    try:
        return await queues.invoker.prepare(registration.handler)(command, lambda: job)
    finally:
        CURRENT_JOB.reset(token)
