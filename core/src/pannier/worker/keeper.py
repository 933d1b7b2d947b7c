"""The keeper: renews leases and sees to it that no handler outlives one."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol

from pannier.clock import Clock
from pannier.records import Lease
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt, Attempts

logger = logging.getLogger("pannier.worker")

MARGIN: Final = 3
"""A handler whose lease can't be renewed is stopped a third of a lease before its end (E6)."""

LOOKS: Final = 10
"""How often in the time of a lease the leases' ends are looked at."""


class LeaseHolder(Protocol):
    """Whoever runs handlers. Called on the worker's loop, but for `overrun`, which the keeper's thread calls."""

    def lose(self, lost: frozenset[Lease]) -> None:
        """The storage has refused these leases: another attempt owns the jobs, or they were cancelled."""

    def endanger(self, leases: frozenset[Lease]) -> None:
        """These leases could not be renewed and end soon: stop their handlers."""

    def overrun(self, leases: frozenset[Lease]) -> None:
        """These leases are about to end; some handlers may still run. Must not block, and may end the process."""


class Keeper:
    """
    Renews held leases, reports the lost ones, and watches those that can't be renewed.

    The ends of leases are looked at while a renewal is under way, too: a storage that doesn't answer is no excuse.
    """

    def __init__(
        self,
        *,
        storage: JobStorageProvider,
        clock: Clock,
        attempts: Attempts,
        holder: LeaseHolder,
        call_holder: Callable[[Callable[[frozenset[Lease]], None], frozenset[Lease]], object],
        lease_for: timedelta,
        renew_every: timedelta,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._attempts = attempts
        self._holder = holder
        self._call_holder = call_holder  # takes a call over to the worker's loop
        self._lease_for = lease_for
        self._renew_every = renew_every
        self._renew_at = clock.now() + renew_every
        self._endangered: frozenset[Lease] = frozenset()
        self._overrun: frozenset[Lease] = frozenset()
        self._soon = asyncio.Event()
        self._suspects: set[Lease] = set()

    def check(self, leases: Iterable[Lease]) -> None:
        """Renew *leases* at once: somebody hints that they may be lost. Call on the keeper's loop."""
        self._suspects.update(leases)
        self._soon.set()

    async def run(self) -> None:
        """Renew and watch until cancelled."""
        renewal: asyncio.Task[None] | None = None
        try:
            while True:
                if renewal is None:
                    await self._pause()
                    renewal = self._begin_renewal()
                if renewal is not None:
                    await asyncio.wait([renewal], timeout=self._look)
                    if renewal.done():
                        renewal.result()
                        renewal = None
                self._watch()
        finally:
            if renewal is not None:
                renewal.cancel()
                await asyncio.wait([renewal])

    @property
    def _look(self) -> float:
        return (self._lease_for / LOOKS).total_seconds()

    async def _pause(self) -> None:
        """Wait until something is to be renewed, at most for a look."""
        seconds = max(0.001, min(self._look, (self._renew_at - self._clock.now()).total_seconds()))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._soon.wait(), seconds)
        self._soon.clear()

    def _begin_renewal(self) -> "asyncio.Task[None] | None":
        left = self._renew_at - self._clock.now()
        if not timedelta(0) < left <= self._renew_every:  # more is left where the clock was set back
            return asyncio.create_task(self._renew_all(), name="pannier renewal")
        suspects, self._suspects = self._attempts.under_any(self._suspects), set()
        return asyncio.create_task(self._check(suspects), name="pannier check") if suspects else None

    async def _renew_all(self) -> None:
        is_renewed = await self._renew(self._attempts)
        pause = self._renew_every if is_renewed else min(self._renew_every / 10, timedelta(seconds=1))
        self._renew_at = self._clock.now() + pause

    async def _check(self, suspects: Iterable[Attempt]) -> None:
        await self._renew(suspects)

    async def _renew(self, attempts: Iterable[Attempt]) -> bool:
        held = {attempt.lease: attempt for attempt in attempts}
        if not held:
            return True
        now = self._clock.now()
        try:
            async with asyncio.timeout((self._lease_for / MARGIN).total_seconds()):
                lost = await self._storage.renew_leases(held.keys(), now=now, lease_for=self._lease_for)
        except Exception as error:  # whatever a storage raises, the next try may pass
            logger.warning("%d leases could not be renewed, trying again: %r", len(held), error)
            return False
        for lease, attempt in held.items():
            if lease not in lost:
                self._attempts.renewed(attempt, ends_at=now + self._lease_for)
        if lost:
            self._call_holder(self._holder.lose, lost)
        return True

    def _watch(self) -> None:
        """
        Report leases that end soon, once as endangered and once, a look before their end, as overrun.

        What is looked at now is looked at again only a look later, so both are said a look ahead of the last moment.
        """
        now, look = self._clock.now(), self._lease_for / LOOKS
        endangered = self._ending_by(now + self._lease_for / MARGIN + look)
        if endangered - self._endangered:
            self._call_holder(self._holder.endanger, endangered - self._endangered)
        self._endangered = endangered
        overrun = self._ending_by(now + 2 * look) if endangered else endangered
        if overrun - self._overrun:
            self._holder.overrun(overrun - self._overrun)
        self._overrun = overrun

    def _ending_by(self, instant: datetime) -> frozenset[Lease]:
        return frozenset(attempt.lease for attempt in self._attempts if attempt.ends_at <= instant)
