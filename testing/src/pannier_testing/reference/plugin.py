"""
Offers the reference as storages: `model://name` in memory, `ledger:///path` in a file. Not installed as a plugin.

Name it to the suite: `pannier certify "model://{namespace}" --adapter pannier_testing.reference.plugin:plugin`.
"""

import threading
from collections.abc import Callable, Sequence

from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf


class Shelves:
    """The shelves of one process, by name."""

    def __init__(self, make_model: Callable[[], Model] = Model) -> None:
        self._make_model = make_model
        self._lock = threading.Lock()
        self._shelves: dict[str, Shelf] = {}

    def shelf(self, name: str) -> Shelf:
        """Return the shelf called *name*, a new one if there is none."""
        with self._lock:
            return self._shelves.setdefault(name, Shelf(self._make_model()))

    def remove(self, name: str) -> None:
        """Forget the shelf called *name*."""
        with self._lock:
            self._shelves.pop(name, None)


class ReferencePlugin:
    """The plugin; its shelves are its only state."""

    def __init__(self) -> None:
        self._shelves = Shelves()

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer the reference."""
        return (StorageAdapter(name="model", schemes=("model",), create=self._create, destroy=self._destroy),)

    def _create(self, url: StorageUrl) -> JobStorageProvider:
        return ReferenceProvider(self._shelves.shelf(url.host))

    async def _destroy(self, url: StorageUrl) -> None:
        self._shelves.remove(url.host)


plugin = ReferencePlugin()
