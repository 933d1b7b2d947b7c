"""What a handler knows about the execution it is part of: `JobContext`, and the job that the current code executes."""

from collections.abc import Awaitable
from contextvars import ContextVar
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from uuid import UUID

from attrs import field, frozen

from pannier.commands import JobResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.queues import JobQueues
    from pannier.sync import SyncJobContext

R = TypeVar("R")


class StopReason(StrEnum):
    """Why a handler is asked to stop."""

    CANCELLED = "cancelled"
    """The job was cancelled, and the storage told this worker so."""
    LEASE_LOST = "lease_lost"
    """The job is no longer this execution's: another worker has it, or it was cancelled and nobody said so here."""
    LEASE_ENDING = "lease_ending"
    """The lease can't be renewed, and ends soon."""
    TIME_LIMIT = "time_limit"
    """The attempt has taken longer than its queue's time limit. It fails, whatever the handler does."""
    SHUTDOWN = "shutdown"
    """The worker stops. A handler that raises gives its job back; what one returns is the job's result."""


class StopToken:
    """
    Tells a handler that it should stop. An async handler gets a CancelledError as well; a sync one looks here (E2).

    A sync handler that stops before its work is done should raise: what it returns would be the job's result.

    Safe to use from any thread.
    """

    __slots__ = ("_event", "_reason")

    def __init__(self) -> None:
        self._event: Event | None = None  # made when somebody waits: most handlers never do, and it costs 1.5 us
        self._reason: StopReason | None = None

    @property
    def reason(self) -> StopReason | None:
        """Why the handler should stop; None: it should not."""
        return self._reason

    @property
    def is_set(self) -> bool:
        """Whether the handler should stop."""
        return self._reason is not None

    def set(self, reason: StopReason) -> None:
        """Ask the handler to stop. The first reason stands."""
        if self._reason is None:
            self._reason = reason
        if self._event is not None:
            self._event.set()

    def wait(self, seconds: float) -> bool:
        """Block this thread until the handler should stop, at most *seconds*. Return whether it should."""
        event = self._event = self._event or Event()
        if self._reason is not None:
            event.set()
        return event.wait(seconds)


class Reporter(Protocol):
    """The execution that progress belongs to."""

    @property
    def tracking_id(self) -> UUID:
        """The job that is executed."""
        ...

    def report(self, progress: JobResult[object]) -> Awaitable[bool]:
        """Keep *progress* under the execution's lease. Gives False where the lease no longer stands."""
        ...


CURRENT_JOB: Final[ContextVar[Reporter | None]] = ContextVar("pannier_current_job", default=None)
"""The execution that the running code is part of. Copied into handler threads."""


@frozen(kw_only=True)
class JobContext(Generic[R]):
    """
    One execution, as its handler and middleware see it.

    Attributes:
        tracking_id: The job; a fresh id in immediate execution.
        queue_id: The queue that it was stored under.
        attempt: Which attempt this is, from 1.
        worker_id: The worker; None in immediate execution.
        expire_on: When it becomes pointless; None: never.
        metadata: What was kept beside the job.
        stop: Set when the handler should stop.
        queues: The `JobQueues` it runs in, to queue further jobs.
    """

    tracking_id: UUID
    queue_id: str
    attempt: int
    worker_id: str | None
    expire_on: datetime | None
    metadata: "Mapping[str, str]"
    stop: StopToken
    queues: "JobQueues"
    _reporter: Reporter = field(repr=False)

    async def report(self, *, current_step: int = 0, total_steps: int = 0, status: str | None = None) -> bool:
        """
        Tell whoever follows the job how far it is. The last report wins.

        Waits while the storage is faulty, and tries again until it answers or the handler should stop (E4).

        Returns:
            False if the job is no longer this execution's: it was cancelled or taken over, and the handler is being
            stopped.

        Raises:
            UnstorableError: The storage can't hold *status*.
        """
        return await self._reporter.report(JobResult(total_steps, current_step, status))

    @property
    def sync(self) -> "SyncJobContext[R]":
        """The same for a handler that runs in a thread: `job.sync.report(...)`."""
        from pannier.sync import SyncJobContext  # noqa: PLC0415  # sync builds on this module

        return SyncJobContext(self, self.queues.sync.portal)
