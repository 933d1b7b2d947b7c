"""
The keeper: renews leases and sees to it that no handler outlives one.

It runs on an event loop in a thread of its own, with a storage instance of its own, so that a handler that blocks the
worker's loop loses no lease (E6). Where the storage can't be opened twice it runs on the worker's loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Thread
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
    """Renews held leases, reports the lost ones, and watches those that can't be renewed."""

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
        renew_at = self._clock.now() + self._renew_every
        while True:
            await self._pause(renew_at - self._clock.now())
            if self._clock.now() >= renew_at:
                is_renewed = await self._renew(list(self._attempts))
                pause = self._renew_every if is_renewed else min(self._renew_every / 10, timedelta(seconds=1))
                renew_at = self._clock.now() + pause
            elif self._suspects:
                suspects, self._suspects = self._suspects, set()
                await self._renew(self._attempts.under_any(suspects))
            self._watch()

    async def _pause(self, span: timedelta) -> None:
        seconds = max(0.001, min(span, self._lease_for / LOOKS).total_seconds())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._soon.wait(), seconds)
        self._soon.clear()

    async def _renew(self, attempts: Iterable[Attempt]) -> bool:
        held = {attempt.lease: attempt for attempt in attempts}
        if not held:
            return True
        now = self._clock.now()
        try:
            lost = await self._storage.renew_leases(held.keys(), now=now, lease_for=self._lease_for)
        except Exception as error:  # whatever a storage raises, the next try may pass
            logger.warning("%d leases could not be renewed, trying again: %s", len(held), error)
            return False
        for lease, attempt in held.items():
            if lease not in lost:
                attempt.ends_at = now + self._lease_for
        if lost:
            self._call_holder(self._holder.lose, lost)
        return True

    def _watch(self) -> None:
        """Report leases that end soon, once as endangered and once, a look before their end, as overrun."""
        now = self._clock.now()
        endangered = self._ending_by(now + self._lease_for / MARGIN)
        if endangered - self._endangered:
            self._call_holder(self._holder.endanger, endangered - self._endangered)
        self._endangered = endangered
        overrun = self._ending_by(now + self._lease_for / LOOKS) if endangered else endangered
        if overrun - self._overrun:
            self._holder.overrun(overrun - self._overrun)
        self._overrun = overrun

    def _ending_by(self, instant: datetime) -> frozenset[Lease]:
        return frozenset(attempt.lease for attempt in self._attempts if attempt.ends_at <= instant)


class LoopKeeping:
    """Runs the keeper as a task on the worker's own loop."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start renewing."""
        self._task = asyncio.create_task(self._keeper.run(), name="pannier leases")

    def check(self, leases: Iterable[Lease]) -> None:
        """Renew *leases* at once."""
        self._keeper.check(leases)

    async def stop(self) -> None:
        """Stop renewing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class ThreadKeeping:
    """Runs the keeper on a loop in a thread of its own, with its own storage."""

    def __init__(
        self,
        open_storage: Callable[[], Awaitable[JobStorageProvider]],
        make_keeper: Callable[[JobStorageProvider], Keeper],
    ) -> None:
        self._open_storage = open_storage
        self._make_keeper = make_keeper
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: Keeper | None = None
        self._stopped: asyncio.Event | None = None

    async def start(self) -> None:
        """
        Start the thread; returns once its storage is open.

        Raises:
            StorageError: It could not be opened.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._thread = Thread(target=self._run_thread, args=(loop, ready), name="pannier leases", daemon=True)
        self._thread.start()
        await ready

    def check(self, leases: Iterable[Lease]) -> None:
        """Renew *leases* at once."""
        if self._loop is not None and self._keeper is not None:
            with suppress(RuntimeError):  # the thread has ended
                self._loop.call_soon_threadsafe(self._keeper.check, tuple(leases))

    async def stop(self) -> None:
        """Stop renewing, close the storage and end the thread."""
        if self._loop is not None and self._stopped is not None:
            with suppress(RuntimeError):  # the thread has ended
                self._loop.call_soon_threadsafe(self._stopped.set)
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _run_thread(self, worker_loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]") -> None:
        asyncio.run(self._keep(worker_loop, ready))

    async def _keep(self, worker_loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]") -> None:
        try:
            storage = await self._open_storage()
        except BaseException as error:  # handed to whoever started the thread
            worker_loop.call_soon_threadsafe(_fail, ready, error)
            return
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._keeper = self._make_keeper(storage)
        worker_loop.call_soon_threadsafe(_succeed, ready)
        keeping = asyncio.create_task(self._keeper.run())
        try:
            await self._stopped.wait()
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await storage.close()


def _fail(ready: "asyncio.Future[None]", error: BaseException) -> None:
    if not ready.done():
        ready.set_exception(error)


def _succeed(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
