"""
Keeping: where the keeper runs.

In a thread of its own, with a storage instance of its own, so that a handler that blocks the worker's loop loses no
lease (E6); or on the worker's loop, where the storage can't be opened twice.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from pannier.records import Lease
from pannier.storage import JobStorageProvider
from pannier.threads import Threads
from pannier.worker.keeper import Keeper


class LoopKeeping:
    """Runs the keeper on the worker's own loop."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def start(self) -> None:
        """Get ready; there is nothing to open."""

    async def run(self) -> None:
        """Keep leases until cancelled."""
        await self._keeper.run()

    def check(self, leases: Iterable[Lease]) -> None:
        """Renew *leases* at once."""
        self._keeper.check(leases)


class ThreadKeeping:
    """Runs the keeper on a loop in a thread of its own, with its own storage."""

    def __init__(
        self,
        *,
        create_storage: Callable[[], JobStorageProvider],
        make_keeper: Callable[[JobStorageProvider], Keeper],
        threads: Threads,
    ) -> None:
        self._create_storage = create_storage
        self._make_keeper = make_keeper
        self._threads = threads
        self._worker_loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._worker_loop.create_future()
        self._ended: asyncio.Future[None] = self._worker_loop.create_future()
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._keeper: Keeper | None = None

    async def start(self) -> None:
        """
        Start the thread; returns once its storage is open.

        Raises:
            StorageError: It could not be opened.
        """
        self._threads.start_loop(self._keep, name="pannier leases", ended=self._tell_worker)
        try:
            await asyncio.shield(self._ready)
        except asyncio.CancelledError:
            await self._stop()
            raise

    async def run(self) -> None:
        """Wait for the thread, which keeps leases until this is cancelled; raise what it dies of."""
        try:
            await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            await self._stop()
            raise

    def check(self, leases: Iterable[Lease]) -> None:
        """Renew *leases* at once."""
        if self._loop is not None and self._keeper is not None:
            with suppress(RuntimeError):  # the thread has ended
                self._loop.call_soon_threadsafe(self._keeper.check, tuple(leases))

    async def _stop(self) -> None:
        self._is_stopping = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the thread has ended
                self._loop.call_soon_threadsafe(self._task.cancel)
        await self._ended

    # -- in the thread -------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._is_stopping:
            return
        storage = self._create_storage()
        try:
            await storage.open()
            self._keeper = self._make_keeper(storage)
            self._worker_loop.call_soon_threadsafe(self._tell_ready)
            await self._keeper.run()
        finally:
            await storage.close()

    def _tell_worker(self, fault: BaseException | None) -> None:
        with suppress(RuntimeError):  # the worker's loop was closed
            self._worker_loop.call_soon_threadsafe(self._tell_end, fault)

    # -- on the worker's loop ------------------------------------------------------------------------------------------

    def _tell_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _tell_end(self, fault: BaseException | None) -> None:
        if fault is None:
            self._tell_ready()
            self._ended.set_result(None)
        elif self._ready.done():
            self._ended.set_exception(fault)
        else:
            self._ready.set_exception(fault)
            self._ended.set_result(None)
