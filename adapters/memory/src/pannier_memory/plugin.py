"""The plugin: what the entry point of pannier-memory names, and where named stores live."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import Lock
from typing import Final, final

from pannier.errors import ConfigurationError
from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_memory._store import Store
from pannier_memory.provider import MemoryStorage

OPTIONS: Final[Mapping[str, str]] = {
    "timeout": "seconds, as for every storage; without effect, since nobody ever waits for this one",
}


@final
class MemoryPlugin:
    """
    Offers `memory://`, a store of its own for each instance, and `memory://name`, one store per name and process.

    A named store lives here, from when its first instance opens until its last one closes. A forked child begins with
    none: what it inherits is a copy, whose jobs run in the parent.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._named: dict[tuple[int, str], tuple[Store, int]] = {}

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer the memory storage."""
        return (
            StorageAdapter(
                name="memory", schemes=("memory",), create=self._create, destroy=self._destroy, options=OPTIONS
            ),
        )

    def _create(self, url: StorageUrl) -> JobStorageProvider:
        name = _name_in(url)
        if not name:
            return MemoryStorage(take=Store, give_back=_forget)
        return MemoryStorage(take=lambda: self._take(name), give_back=lambda _: self._give_back(name))

    async def _destroy(self, url: StorageUrl) -> None:
        with self._lock:
            named = self._named.get((os.getpid(), _name_in(url)))
        if named is not None:
            store, _ = named
            with store.lock:
                store.clear()

    def _take(self, name: str) -> Store:
        with self._lock:
            store, instances = self._named.get((os.getpid(), name)) or (Store(), 0)
            self._named[os.getpid(), name] = (store, instances + 1)
            return store

    def _give_back(self, name: str) -> None:
        with self._lock:
            store, instances = self._named.pop((os.getpid(), name))
            if instances > 1:
                self._named[os.getpid(), name] = (store, instances - 1)


def _name_in(url: StorageUrl) -> str:
    url.check_options(OPTIONS)
    url.seconds("timeout", default=timedelta(seconds=5))
    if url.path:
        raise ConfigurationError(
            f"{url} has a path; write memory:// for a private store, memory://name for a shared one"
        )
    return url.host


def _forget(_: Store) -> None:
    """Drop a private store: nobody else knows it."""


plugin: Final = MemoryPlugin()
