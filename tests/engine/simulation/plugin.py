"""
The plugins of every process in every simulation, put together once: that takes longer than most simulations.

A process offers its storage under its own name before its `JobQueues` is made, and takes it back at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from pannier.codec import ConverterCodec
from pannier.events import JobEvent
from pannier.hookspecs import hookimpl
from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl


class SimulatedPlugin:
    """Offers `simulated://name`."""

    def __init__(self) -> None:
        self.makers: dict[str, Callable[[], JobStorageProvider]] = {}

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer it."""
        return (StorageAdapter(name="simulated", schemes=("simulated",), create=self._create, destroy=self._destroy),)

    def _create(self, url: StorageUrl) -> JobStorageProvider:
        return self.makers[url.host]()

    async def _destroy(self, _: StorageUrl) -> None:
        """There is nothing outside of the universe."""


class Listener:
    """Wants to hear of everything, so that there is something to tell."""

    @hookimpl
    def pannier_job_event(self, event: JobEvent) -> None:
        """Hear of it."""


CODEC: Final = ConverterCodec()
_PLUGIN: Final = SimulatedPlugin()


def _plugins(*plugins: object) -> Plugins:
    registered = Plugins()
    for plugin in plugins:
        registered.register(plugin)
    return registered


QUIET: Final = _plugins(_PLUGIN)
TALKATIVE: Final = _plugins(_PLUGIN, Listener())


@contextmanager
def offered(name: str, make: Callable[[], JobStorageProvider], plugins: Plugins) -> Iterator[str]:
    """Let `JobQueues` that are made here find *plugins* installed, among them the storage that *make* makes."""

    def installed(_: Iterable[object] = ()) -> Plugins:
        return plugins

    _PLUGIN.makers[name] = make
    with patch.object(Plugins, "installed", installed):
        yield f"simulated://{name}"


def withdraw(names: Iterable[str]) -> None:
    """Forget the storages of a world that is over."""
    for name in names:
        del _PLUGIN.makers[name]
