"""
Plugins: found by entry point or passed in, validated whole, then registered.

A plugin that is broken is left out and kept in `Plugins.broken` with the reason; whoever asks for it gets the error.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final

import pluggy

from pannier import hookspecs
from pannier.errors import (
    BrokenPluginError,
    ContractVersionError,
    DuplicateSchemeError,
    UnknownSchemeError,
)
from pannier.storage import CONTRACT_VERSION, JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OFFICIAL_ADAPTERS: Final = {  # never guess a package name: someone may have registered it
    "memory": "memory",
    "sqlite": "sqlite",
    "mongodb": "mongo",
    "mongodb+srv": "mongo",
    "postgresql": "postgres",
}
"""The entry point that serves a scheme, and with "pannier-" before it the package. For errors; discovery never asks."""


class Plugins:
    """
    The plugins of one `JobQueues`. Nothing is shared between two of these.

    Attributes:
        hook: The caller of the registered plugins' hooks.
        broken: Plugins that were found but left out, by name, each with the reason.
    """

    def __init__(self) -> None:
        self._manager = _new_manager()
        self._adapters: dict[str, StorageAdapter] = {}
        self._owners: dict[str, str] = {}
        self.broken: dict[str, BrokenPluginError] = {}
        self.hook = self._manager.hook

    @classmethod
    def installed(cls, extra: Iterable[object] = ()) -> "Plugins":
        """
        Register *extra*, then what is installed under the entry-point group "pannier".

        Raises:
            BrokenPluginError: One of *extra* is broken.
            DuplicateSchemeError: Two plugins serve one scheme.
        """
        plugins = cls()
        for plugin in extra:
            plugins.register(plugin)
        from importlib.metadata import entry_points  # noqa: PLC0415  # a fifth of the time that pannier's import took

        plugins.load(entry_points(group=hookspecs.PROJECT))
        return plugins

    def load(self, found: "Iterable[EntryPoint]") -> None:
        """
        Load and register the plugins *found*, by name. A broken one is left out and kept in `broken`.

        Raises:
            DuplicateSchemeError: Two plugins serve one scheme.
        """
        for entry in sorted(found, key=lambda entry: entry.name):
            try:
                plugin: object = entry.load()
            except Exception as error:  # a third party's import may raise anything
                reason = f"{entry.value} can't be imported: {type(error).__name__}: {error}"
                self.broken[entry.name] = BrokenPluginError(entry.name, reason)
                continue
            if self._manager.is_registered(plugin):
                continue
            try:
                self.register(plugin, name=entry.name)
            except BrokenPluginError as error:
                self.broken[entry.name] = error

    def register(self, plugin: object, *, name: str | None = None) -> None:
        """
        Validate *plugin* whole, then register it; a refused one has changed nothing.

        Raises:
            BrokenPluginError: It implements no hook, an unknown one, with unknown arguments, or offers a bad adapter.
            DuplicateSchemeError: It serves a scheme that another plugin serves.
        """
        name = name or _name_of(plugin)
        adapters = _validated(plugin, name)
        for adapter in adapters:
            for scheme in adapter.schemes:
                if scheme in self._owners:
                    raise DuplicateSchemeError(scheme, (self._owners[scheme], name))
        self._manager.register(plugin, name)
        for adapter in adapters:
            for scheme in adapter.schemes:
                self._adapters[scheme] = adapter
                self._owners[scheme] = name

    @property
    def adapters(self) -> Mapping[str, StorageAdapter]:
        """The storages on offer, by URL scheme."""
        return dict(sorted(self._adapters.items()))

    def adapter_for(self, url: StorageUrl) -> StorageAdapter:
        """
        Return the adapter that serves *url*.

        Raises:
            UnknownSchemeError: None does; lists the installed ones, the close match, the install command.
            BrokenPluginError: The plugin of that scheme is installed, but broken.
            ContractVersionError: It follows another major version of the contract.
        """
        adapter = self._adapters.get(url.scheme)
        if adapter is None:
            official = OFFICIAL_ADAPTERS.get(url.scheme)
            for name in (url.scheme, official or url.scheme):
                if name in self.broken:
                    raise self.broken[name]
            raise UnknownSchemeError(url.scheme, tuple(self.adapters), official and f"pannier-{official}")
        if _major(adapter.contract_version) != _major(CONTRACT_VERSION):
            raise ContractVersionError(adapter.name, adapter.contract_version, CONTRACT_VERSION)
        return adapter

    def create_storage(self, url: StorageUrl) -> JobStorageProvider:
        """
        Make the unopened storage that *url* names.

        Raises:
            ConfigurationError: No adapter serves it, or it can't be used (see `adapter_for`), or an option is wrong.
        """
        adapter = self.adapter_for(url)
        try:
            return adapter.create(url)
        except ImportError as error:
            raise BrokenPluginError(adapter.name, f"its driver can't be imported: {error}") from error


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _name_of(plugin: object) -> str:
    return getattr(plugin, "__name__", None) or type(plugin).__qualname__


def _validated(plugin: object, name: str) -> tuple[StorageAdapter, ...]:
    """Register *plugin* in a manager of its own, so that a fault shows before anything is changed."""
    trial = _new_manager()
    try:
        trial.register(plugin, name)
        trial.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise BrokenPluginError(name, str(error)) from error
    if not trial.get_hookcallers(plugin):
        raise BrokenPluginError(name, "it implements no hook; mark its functions with pannier.hookimpl")
    try:
        offered = list(chain.from_iterable(trial.hook.pannier_storage_adapters()))
    except Exception as error:  # a third party's hook may raise anything
        raise BrokenPluginError(name, f"pannier_storage_adapters raised {type(error).__name__}: {error}") from error
    return tuple(_checked_adapters(offered, name))


def _checked_adapters(offered: Iterable[object], name: str) -> Iterator[StorageAdapter]:
    for adapter in offered:
        if not isinstance(adapter, StorageAdapter):
            raise BrokenPluginError(
                name, f"pannier_storage_adapters gave a {type(adapter).__name__}, no StorageAdapter"
            )
        if not adapter.schemes or any(scheme != scheme.lower() or "://" in scheme for scheme in adapter.schemes):
            raise BrokenPluginError(
                name, f"adapter {adapter.name!r} has bad schemes {adapter.schemes!r}: lower case, no '://'"
            )
        if not callable(adapter.create) or not callable(adapter.destroy):
            raise BrokenPluginError(name, f"adapter {adapter.name!r} needs callables as create and destroy")
        try:
            _major(adapter.contract_version)
        except ValueError:
            reason = (
                f"adapter {adapter.name!r} declares contract version {adapter.contract_version!r}, not 'major.minor'"
            )
            raise BrokenPluginError(name, reason) from None
        yield adapter


def _major(version: str) -> int:
    return int(version.partition(".")[0])
