"""The janitor: ends what has expired and deletes what has been kept long enough, a bounded step at a time."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from typing import Final

from pannier.clock import Clock
from pannier.purging import Purged, StaleJobs
from pannier.records import JobStatus
from pannier.storage import JobStorageProvider

logger = logging.getLogger("pannier.worker")

STEP: Final = 1_000
"""How many jobs one purge step touches at most, so that it never holds the storage for long."""


async def purge_all(
    storage: JobStorageProvider,
    *,
    clock: Clock,
    keep: Mapping[JobStatus, timedelta],
    queue_ids: frozenset[str] | None = None,
) -> Purged:
    """
    Purge step by step until nothing stale is left. Other callers get their turn between the steps.

    Raises:
        StorageError: The storage could not be reached; steps before that are done.
    """
    expired = deleted = 0
    while True:
        purged = await storage.purge_stale_jobs(StaleJobs(now=clock.now(), keep=keep, queue_ids=queue_ids, limit=STEP))
        expired += purged.expired
        deleted += purged.deleted
        if purged.expired < STEP and purged.deleted < STEP:
            return Purged(expired, deleted)
        await asyncio.sleep(0)


class Janitor:
    """Purges at start and from then on, with jitter, so that many workers don't do it at the same moment."""

    def __init__(
        self,
        *,
        storage: JobStorageProvider,
        clock: Clock,
        every: timedelta,
        keep: Mapping[JobStatus, timedelta],
        random: Random,
        expired: Callable[[int], None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._every = every
        self._keep = keep
        self._random = random
        self._expired = expired

    async def run(self) -> None:
        """Purge until cancelled."""
        while True:
            try:
                purged = await purge_all(self._storage, clock=self._clock, keep=self._keep)
            except Exception as error:  # whatever a storage raises, the next round may pass
                logger.warning("stale jobs could not be purged, trying again in %s: %s", self._every, error)
            else:
                if purged.expired:
                    self._expired(purged.expired)
                if purged.expired or purged.deleted:
                    logger.info("purged: %d expired, %d deleted", purged.expired, purged.deleted)
            await asyncio.sleep(self._every.total_seconds() * (0.75 + self._random.random() / 2))
