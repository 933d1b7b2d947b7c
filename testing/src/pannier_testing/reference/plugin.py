"""
Offers the reference as storages: `model://name`, `ledger:///folder/file`, `loopback://host:port/name`.

Not installed as a plugin. Name it to the suite:
`pannier certify "model://{namespace}" --adapter pannier_testing.reference.plugin:plugin`.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_testing.reference.ledger import LEDGER_CAPABILITIES, Ledger, remove_ledger
from pannier_testing.reference.loopback import OPTIONS, LoopbackProvider
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf


class Shelves:
    """The shelves of one process, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shelves: dict[str, Shelf] = {}

    @property
    def names(self) -> list[str]:
        """The names of all shelves."""
        with self._lock:
            return list(self._shelves)

    def shelf(self, name: str, make_model: Callable[[], Model] = Model) -> Shelf:
        """Return the shelf called *name*, a new one if there is none."""
        with self._lock:
            if name not in self._shelves:
                self._shelves[name] = Shelf(make_model())
            return self._shelves[name]

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
        """Offer the reference in its three dresses."""
        return (
            StorageAdapter(name="model", schemes=("model",), create=self._create_model, destroy=self._destroy_model),
            StorageAdapter(name="ledger", schemes=("ledger",), create=create_ledger, destroy=destroy_ledger),
            StorageAdapter(
                name="loopback",
                schemes=("loopback",),
                create=LoopbackProvider,
                destroy=destroy_loopback,
                options=OPTIONS,
            ),
        )

    def _create_model(self, url: StorageUrl) -> JobStorageProvider:
        return ReferenceProvider(self._shelves.shelf(url.host))

    async def _destroy_model(self, url: StorageUrl) -> None:
        self._shelves.remove(url.host)


def create_ledger(url: StorageUrl) -> JobStorageProvider:
    """Make an instance on the file that *url* names."""
    return ReferenceProvider(Ledger(Path("/", url.path)), LEDGER_CAPABILITIES)


async def destroy_ledger(url: StorageUrl) -> None:
    """Remove the file."""
    remove_ledger(Path("/", url.path))


async def destroy_loopback(url: StorageUrl) -> None:
    """Remove the namespace on the server."""
    await LoopbackProvider(url).destroy()


plugin = ReferencePlugin()
