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
from pannier.errors import UnstorableError
from pannier.records import JobError, Lease
from pannier.settlements import Failed, Settlement
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt

logger = logging.getLogger("pannier.worker")

BATCH: Final = 500
"""How many outcomes one call carries at most; more gains nothing and makes the other callers wait."""

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
        self._asked = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._waiting)

    def settle(self, attempt: Attempt) -> None:
        """Take in an attempt that has ended. Its outcome is sent in the background."""
        self._waiting.append(attempt)
        self._ask()

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
            self._idle.set()

    async def drain(self, timeout: timedelta) -> bool:
        """Wait until every outcome is answered, at most *timeout*. Return whether all are."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout.total_seconds())
        except TimeoutError:
            return False
        return True

    def _ask(self) -> None:
        if not self._asked.is_set():
            self._asked.set()
            self._idle.clear()

    async def _settle(self, batch: list[Attempt], unreadable: Sequence[Settlement]) -> None:
        while batch or unreadable:
            settlements = [attempt.settlement() for attempt in batch]
            try:
                refused = await self._storage.settle_jobs([*settlements, *unreadable], now=self._clock.now())
            except UnstorableError as error:
                await self._settle_otherwise(batch, error)
            except Exception as error:  # whatever a storage raises, the outcome is kept (E4)
                logger.warning("%d outcomes could not be settled, trying again: %r", len(batch), error)
                await self._backoff.pause()
            else:
                self._backoff.reset()
                self._answered(batch, refused)
                return

    async def _settle_otherwise(self, batch: list[Attempt], error: UnstorableError) -> None:
        """
        Let a job whose outcome the storage can't hold fail for good, with that as its reason (E16).

        Where it can't hold even that, the outcome is taken out of *batch* to be tried again alone, now and then.
        """
        culprit = next((attempt for attempt in batch if attempt.tracking_id == error.tracking_id), None)
        if culprit is None:
            logger.error("an outcome could not be settled, and the storage doesn't say whose: %s", error)
            await self._backoff.pause()
        elif isinstance(culprit.outcome, Failed) and culprit.outcome.error.kind == UNSTORABLE:
            logger.error("the storage does not let job %s fail, trying again: %s", culprit.tracking_id, error)
            batch.remove(culprit)
            asyncio.get_running_loop().call_later(REFUSED_PAUSE_SECONDS, self.settle, culprit)
        else:
            culprit.outcome = Failed(
                JobError(
                    attempt=culprit.job.attempt,
                    at=self._clock.now(),
                    kind=UNSTORABLE,
                    message=f"its outcome can't be stored: {error.reason}",
                )
            )
