"""An instance of the storage on a thread and an event loop of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from pannier.storage import JobStorageProvider

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class OtherThread:
    """Runs calls on an opened instance that lives in a thread of its own. Made by `Trial.open_on_thread`."""

    def __init__(self, storage: JobStorageProvider) -> None:
        self._storage = storage
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pannier-trial", daemon=True)

    async def start(self) -> None:
        """Start the thread and open the instance there."""
        self._thread.start()
        await self.run(lambda storage: storage.open())

    async def run(self, use: Callable[[JobStorageProvider], Awaitable[T]]) -> T:
        """Await *use(storage)* on the thread."""

        async def used() -> T:
            return await use(self._storage)

        call: Future[T] = asyncio.run_coroutine_threadsafe(used(), self._loop)
        return await asyncio.wrap_future(call)

    async def stop(self) -> None:
        """Close the instance and end the thread. Twice is fine."""
        if not self._thread.is_alive():
            return
        try:
            await self.run(lambda storage: storage.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join)
            self._loop.close()
