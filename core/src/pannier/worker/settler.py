"""The settler: hands outcomes to the storage in batches, and tries again until it answers (E4)."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from pannier.backoff import Backoff
from pannier.claims import Unreadable
from pannier.clock import Clock
from pannier.errors import StorageError, UnstorableError
from pannier.records import JobError, Lease
from pannier.settlements import Failed, Settlement
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt

logger = logging.getLogger("pannier.worker")

BATCH: Final = 500
"""How many outcomes one call carries at most; more gains nothing and makes the other callers wait."""

TOO_MANY_REFUSALS: Final = 2
"""After so many refusals of one batch that give no hope, its outcomes are settled one by one."""

REFUSED_PAUSE_SECONDS: Final = 1.0
"""How long to wait before a storage that refuses to let a job fail is asked again."""

UNSTORABLE: Final = "pannier.errors.UnstorableError"


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
        answered: Callable[[Sequence[Attempt], frozenset[Lease]], None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._backoff = backoff
        self._answered = answered
        self._waiting: deque[Attempt] = deque()
        self._unreadable: list[Settlement] = []
        self._put_aside = 0
        self._asked = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._waiting) + self._put_aside

    def settle(self, attempt: Attempt) -> None:
        """Take in an attempt that has ended. Its outcome is sent in the background."""
        if not self._waiting:  # else it was asked already
            self._ask()
        self._waiting.append(attempt)

    def fail_unreadable(self, unreadable: Unreadable) -> None:
        """Let a job whose stored form can't be read fail for good; what is stored of it stays (R56)."""
        error = JobError(
            attempt=1, at=self._clock.now(), kind="pannier.errors.DecodingError", message=unreadable.reason
        )
        self._unreadable.append(Settlement(unreadable.lease, Failed(error)))
        self._ask()

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._waiting or self._unreadable:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                unreadable, self._unreadable = self._unreadable, []
                await self._settle(batch, unreadable)
            if not self._put_aside:
                self._idle.set()

    async def drain(self, timeout: timedelta) -> bool:
        """Wait until every outcome is answered, at most *timeout*. Return whether all are."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout.total_seconds())
        except TimeoutError:
            return False
        return True

    def _ask(self) -> None:
        self._asked.set()
        self._idle.clear()

    async def _settle(self, batch: list[Attempt], unreadable: list[Settlement]) -> None:
        """Settle a batch. One that is refused again is settled one by one, so that no outcome holds up the others."""
        refusals = 0
        while batch or unreadable:
            try:
                refused = await self._send(batch, unreadable)
            except Exception as error:  # whatever a storage raises, the outcome is kept (E4)
                if isinstance(error, UnstorableError) and self._settle_otherwise(batch, error):
                    continue
                count = len(batch) + len(unreadable)
                logger.warning("%d outcomes could not be settled, trying again: %r", count, error)
                await self._backoff.pause()
                refusals += not (isinstance(error, StorageError) and error.retryable)
                if refusals == TOO_MANY_REFUSALS:
                    await self._settle_apart(batch, unreadable)
                    return
            else:
                self._take_answer(batch, refused)
                return

    async def _settle_apart(self, batch: Sequence[Attempt], unreadable: Sequence[Settlement]) -> None:
        """
        Settle each outcome for itself. What is refused even so is tried again now and then.

        A job that can neither be read nor be failed is left: when its lease has lapsed, the next claim tells of it.
        """
        for attempt in batch:
            try:
                refused = await self._send([attempt], [])
            except Exception as error:  # as above
                logger.warning("the outcome of job %s is refused, trying again: %r", attempt.tracking_id, error)
                self._settle_later(attempt)
            else:
                self._take_answer([attempt], refused)
        for settlement in unreadable:
            try:
                refused = await self._send([], [settlement])
            except Exception as error:  # as above
                logger.warning("job %s is unreadable, and can't be failed: %r", settlement.lease.tracking_id, error)
            else:
                self._take_answer([], refused)

    async def _send(self, batch: Sequence[Attempt], unreadable: Sequence[Settlement]) -> frozenset[Lease]:
        settlements = [attempt.settlement() for attempt in batch]
        return await self._storage.settle_jobs([*settlements, *unreadable], now=self._clock.now())

    def _take_answer(self, batch: Sequence[Attempt], refused: frozenset[Lease]) -> None:
        self._backoff.reset()
        self._answered(batch, refused)

    def _settle_otherwise(self, batch: list[Attempt], error: UnstorableError) -> bool:
        """
        Let a job whose outcome the storage can't hold fail for good, with that as its reason (E16).

        Where it can't hold even that, the outcome is taken out of *batch* to be tried again alone, now and then.

        Returns:
            Whether *error* names a job of *batch*.
        """
        culprit = next((attempt for attempt in batch if attempt.tracking_id == error.tracking_id), None)
        if culprit is None:
            return False
        if isinstance(culprit.outcome, Failed) and culprit.outcome.error.kind == UNSTORABLE:
            logger.error("the storage does not let job %s fail, trying again: %s", culprit.tracking_id, error)
            batch.remove(culprit)
            self._settle_later(culprit)
        else:
            culprit.outcome = Failed(
                JobError(
                    attempt=culprit.job.attempt,
                    at=self._clock.now(),
                    kind=UNSTORABLE,
                    message=f"its outcome can't be stored: {error.reason}",
                )
            )
        return True

    def _settle_later(self, attempt: Attempt) -> None:
        self._put_aside += 1
        asyncio.get_running_loop().call_later(REFUSED_PAUSE_SECONDS, self._settle_again, attempt)

    def _settle_again(self, attempt: Attempt) -> None:
        self._put_aside -= 1
        self.settle(attempt)
