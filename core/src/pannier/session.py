"""A session: one opened storage, with its clock and its hints, on the event loop that opened it."""

import asyncio
import logging
import os
from contextlib import suppress
from datetime import timedelta
from typing import Final

from pannier.clock import HELD, StorageClock
from pannier.environment import Environment
from pannier.hints import MISSED, Hints
from pannier.storage import JobInspector, JobNotifier, JobResultProvider, JobStorageProvider, add_ons

logger = logging.getLogger("pannier")

READ_CLOCK_SECONDS: Final = 60.0

GAP_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0
"""How often to look whether the machine was suspended, and what is taken for that: the clock is read anew then."""


class Session:
    """
    What is there while a `JobQueues` is open.

    Attributes:
        storage: The opened provider.
        results, inspector, notifier: Its add-ons; None where it does not offer them.
        clock: The storage's clock.
        hints: Notices of this process and of the storage.
        loop: The loop that everything belongs to.
        pid: The process that opened it; a forked child must open its own.
    """

    def __init__(self, storage: JobStorageProvider, environment: Environment) -> None:
        offered = add_ons(storage)
        self.storage = storage
        self.results = storage if "results" in offered and isinstance(storage, JobResultProvider) else None
        self.inspector = storage if "inspect" in offered and isinstance(storage, JobInspector) else None
        self.notifier = storage if "notify" in offered and isinstance(storage, JobNotifier) else None
        self.clock = StorageClock(storage.read_clock, seconds=environment.seconds, fallback=environment.wall)
        self.hints = Hints(random=environment.random)
        self.loop = asyncio.get_running_loop()
        self._seconds = environment.seconds
        self._latest = self.clock.now()
        self.pid = os.getpid()
        self._reading = asyncio.create_task(self._keep_clock(), name="pannier clock")

    @classmethod
    async def open(cls, storage: JobStorageProvider, environment: Environment) -> "Session":
        """
        Open *storage* and read its clock.

        Raises:
            StorageError: It can't be opened. It is closed again.
        """
        try:
            await storage.open()
        except BaseException:
            with suppress(Exception):
                await storage.close()
            raise
        session = cls(storage, environment)
        try:
            await session.clock.synchronise()
        except BaseException:
            with suppress(Exception):
                await session.close()
            raise
        return session

    async def close(self) -> None:
        """Close the storage, and stop everything that belongs to the session."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self.hints.stop()
        await self.storage.close()

    def listen(self, queue_ids: frozenset[str]) -> None:
        """Let the storage push notices about *queue_ids*, where it can."""
        if self.notifier is not None:
            self.hints.listen(self.notifier, queue_ids)

    async def _keep_clock(self) -> None:
        while True:
            await self._minute()
            try:
                await self.clock.synchronise()
            except Exception as error:  # the clock goes on as it was
                logger.warning("the storage's clock could not be read: %s", error)

    async def _minute(self) -> None:
        """
        Wait a minute, or until the machine was suspended: the loop's clock stands still meanwhile.

        A clock that was set back is told as a hint to look at everything: what was waited for is further away now than
        anybody meant.
        """
        end = self.loop.time() + READ_CLOCK_SECONDS
        while (before := self.loop.time()) < end:
            seconds = self._seconds()
            await asyncio.sleep(LOOK_SECONDS)
            latest, self._latest = self._latest, self.clock.now()
            if self._latest < latest - HELD:
                logger.warning("the clock was set back by %s", latest - self._latest)
                self.hints.pass_on(MISSED)
            if (self._seconds() - seconds) - (self.loop.time() - before) > GAP_SECONDS:
                return


DEFAULT_PROBE: Final = {True: timedelta(seconds=60), False: timedelta(seconds=1)}
"""How often an idle worker asks, by whether the storage pushes."""
