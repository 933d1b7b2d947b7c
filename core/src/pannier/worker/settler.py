"""The settler: hands outcomes to the storage in batches, and tries again until it answers (E4)."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from attrs import frozen

from pannier.clock import Clock
from pannier.errors import UnstorableError
from pannier.records import Failed, JobError, JobRecord, Lease, Outcome, Settlement
from pannier.storage import JobStorageProvider
from pannier.worker.backoff import Backoff

logger = logging.getLogger("pannier.worker")

BATCH: Final = 500
"""How many outcomes one call carries at most; more gains nothing and makes the other callers wait."""


@frozen
class Ended:
    """One attempt that has ended, and what is to become of its job; `job` is None where it could not be read."""

    job: JobRecord | None
    lease: Lease
    outcome: Outcome


class Settler:
    """
    Collects outcomes and settles them.

    A batch is sent as soon as the one before is answered; nothing waits for company. An outcome leaves only when the
    storage has answered it, accepted or refused.
    """

    def __init__(
        self,
        *,
        storage: JobStorageProvider,
        clock: Clock,
        backoff: Backoff,
        answered: Callable[[Sequence[Ended], frozenset[Lease]], None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._backoff = backoff
        self._answered = answered
        self._waiting: deque[Ended] = deque()
        self._sent: Sequence[Ended] = ()
        self._asked = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._waiting)

    def has(self, lease: Lease) -> bool:
        """Whether the outcome of *lease* is here, sent or not: its attempt has ended, so nothing is left to stop."""
        return any(ended.lease == lease for ended in (*self._sent, *self._waiting))

    def settle(self, ended: Ended) -> None:
        """Take an outcome in. It is sent in the background."""
        self._waiting.append(ended)
        self._asked.set()
        self._idle.clear()

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._settle(batch)
            self._idle.set()

    async def drain(self, timeout: timedelta) -> bool:
        """Wait until every outcome is answered, at most *timeout*. Return whether all are."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout.total_seconds())
        except TimeoutError:
            return False
        return True

    async def _settle(self, batch: list[Ended]) -> None:
        while True:
            self._sent = batch
            settlements = [Settlement(ended.lease, ended.outcome) for ended in batch]
            try:
                refused = await self._storage.settle_jobs(settlements, now=self._clock.now())
            except UnstorableError as error:
                batch = [self._unstorable(ended, error) for ended in batch]
            except asyncio.CancelledError:
                self._waiting.extendleft(reversed(batch))
                raise
            except Exception as error:  # whatever a storage raises, the outcome is kept (E4)
                logger.warning("%d outcomes could not be settled, trying again: %s", len(batch), error)
                await self._backoff.pause()
            else:
                self._backoff.reset()
                self._sent = ()
                self._answered(batch, refused)
                return

    def _unstorable(self, ended: Ended, error: UnstorableError) -> Ended:
        """Let a job whose outcome the storage can't hold fail for good, with that as its reason (E16)."""
        if ended.lease.tracking_id != error.tracking_id:
            return ended
        # Where even the error can't be held, less is said, but the job ends.
        message = "" if isinstance(ended.outcome, Failed) else f"the result can't be stored: {error.reason}"
        reason = JobError(
            attempt=1 if ended.job is None else ended.job.attempt,
            at=self._clock.now(),
            kind="pannier.errors.UnstorableError",
            message=message,
        )
        return Ended(ended.job, ended.lease, Failed(reason))
