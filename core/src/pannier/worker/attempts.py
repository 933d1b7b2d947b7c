"""Attempts: leased jobs on their way through this worker, from the claim to the answered settlement."""

from collections.abc import Awaitable, Collection, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from pannier.commands import JobResult
from pannier.context import JobContext, StopReason, StopToken
from pannier.handlers import HandlerKind
from pannier.records import JobRecord, Lease
from pannier.restoring import restore_lease
from pannier.settlements import Outcome, Release, Settlement, restore_settlement

if TYPE_CHECKING:
    import asyncio

    from pannier.worker.execution import Execution
    from pannier.worker.lanes import Lane


class Phase(StrEnum):
    """Where an attempt is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Attempt:
    """
    One attempt of one job. Mutable, and only ever touched on the worker's loop, but for `ends_at`.

    Most attempts never need most of these attributes: those defaults stand in the class, which is half the time of a
    job's bookkeeping here. To its handler's code it is the `Reporter` of its progress.

    Attributes:
        job: The record as it was claimed.
        key: The integer of its id, by which attempts are kept: hashing a UUID runs Python code, 0.3 us each time.
        lane: The queue whose slot it takes.
        ends_at: When its lease ends.
        phase: Where it is.
        outcome: What became of it, once it has ended.
        execution: Where it runs, once it does.
        task: What runs it, from its first step to its last: one that is cancelled before never runs any code.
        is_cancelled: Whether a notice said that the job was cancelled.
        timer: Its time limit, or the next report that it is stuck.
        successor: The same job, claimed again by this worker before this attempt had ended (E13).
        stop_reason: Why the handler was asked to stop; None: it was not.
    """

    phase = Phase.WAITING
    outcome: Outcome | None = None
    execution: "Execution"
    task: "asyncio.Task[None] | None" = None
    is_cancelled = False
    timer: "asyncio.TimerHandle | None" = None
    successor: "Attempt | None" = None
    stop_reason: StopReason | None = None
    _stop: StopToken | None = None

    def __init__(self, job: JobRecord, lane: "Lane", ends_at: datetime) -> None:
        self.job = job
        self.key = job.tracking_id.int
        self.lane = lane
        self.ends_at = ends_at

    @property
    def tracking_id(self) -> UUID:
        """The job."""
        return self.job.tracking_id

    @property
    def lease(self) -> Lease:
        """The right to write it."""
        return restore_lease(self.job.tracking_id, self.job.fence)

    @property
    def stop(self) -> StopToken:
        """What tells the handler to stop."""
        if self._stop is None:
            self._stop = StopToken()
            if self.stop_reason is not None:
                self._stop.set(self.stop_reason)
        return self._stop

    def settlement(self) -> Settlement:
        """Return what is to be stored of it."""
        return restore_settlement(self.lease, self.outcome or Release())

    def context(self) -> "JobContext[object]":
        """Make what its handler and middleware see of it."""
        return self.execution.context(self)

    def ask_to_stop(self, reason: StopReason) -> None:
        """Tell the handler to stop: an async one by cancelling it, one in a thread by its token alone (E2)."""
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        if self._stop is not None:
            self._stop.set(reason)
        handler = self.lane.registration.handler
        if self.task is not None and handler is not None and handler.kind is HandlerKind.ASYNC:
            self.task.cancel()

    def report(self, progress: JobResult[object]) -> Awaitable[bool]:
        """Keep *progress* under its lease. See `Reporter`."""
        return self.execution.report(self, progress)


class Attempts:
    """
    The attempts whose leases this worker holds: they wait, run, or have ended and are not settled yet.

    Changed on the worker's loop; the keeper's thread reads it. Each step is one operation of a dict.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, Attempt] = {}
        self._none_ends_before: datetime | None = None  # a lower bound, looked up anew when it is reached

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._by_id.values()))

    def hold(self, attempts: Sequence[Attempt], *, ends_at: datetime) -> list[Attempt | None]:
        """Take *attempts* in, whose leases end at *ends_at*. Return earlier ones of the same jobs, let go."""
        by_id = self._by_id
        earlier: list[Attempt | None] = []
        for attempt in attempts:
            earlier.append(by_id.get(attempt.key))
            by_id[attempt.key] = attempt
        if self._none_ends_before is not None and ends_at < self._none_ends_before:
            self._none_ends_before = ends_at
        return earlier

    def renewed(self, attempt: Attempt, *, ends_at: datetime) -> None:
        """Take note of the new end of the lease of *attempt*; an earlier one where the clock was set back."""
        attempt.ends_at = ends_at
        if self._none_ends_before is not None and ends_at < self._none_ends_before:
            self._none_ends_before = ends_at

    def drop(self, *attempts: Attempt) -> None:
        """Let *attempts* go: they are settled, or their leases are lost."""
        by_id = self._by_id
        for attempt in attempts:
            if by_id.get(attempt.key) is attempt:
                del by_id[attempt.key]

    def of(self, tracking_id: UUID) -> Attempt | None:
        """Return the attempt of the job *tracking_id*."""
        return self._by_id.get(tracking_id.int)

    def under(self, lease: Lease) -> Attempt | None:
        """Return the attempt that *lease* belongs to, unless it is held no more."""
        attempt = self._by_id.get(lease.tracking_id.int)
        return attempt if attempt is not None and attempt.job.fence == lease.fence else None

    def have_lapsed(self, now: datetime) -> bool:
        """Whether a lease has ended by *now* and may still be renewed: its handler was not told to stop for that."""
        if self._none_ends_before is not None and now < self._none_ends_before:
            return False
        ends = [attempt.ends_at for attempt in self if attempt.stop_reason is None]
        self._none_ends_before = min(ends, default=None)
        return self._none_ends_before is not None and self._none_ends_before <= now

    def under_any(self, leases: Collection[Lease]) -> list[Attempt]:
        """Return the attempts that *leases* belong to, without those that are held no more."""
        return [attempt for attempt in map(self.under, leases) if attempt is not None]
