"""
The storage under test, and the places that are made for it.

A `Subject` is everything the suite knows of the storage; a `Place` is one fresh namespace, named so that it can be told
from everything that the suite did not make. Only what bears that mark is ever destroyed.
"""

import importlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Final
from urllib.parse import urlsplit

from attrs import Factory, define, field, frozen

from pannier.errors import ConfigurationError
from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider, StorageAdapter, add_ons
from pannier.urls import StorageUrl
from pannier_testing.rules import Need

MARK: Final = "pannier_test_"
"""What every namespace and folder that the suite makes begins with."""


class NewerSchema(StrEnum):
    """What a newer schema says of adapters that do not know it; see `StorageConformance.make_newer`."""

    COMPATIBLE = "compatible"
    """They may go on working with it."""
    INCOMPATIBLE = "incompatible"
    """They must leave it alone."""


@frozen
class Place:
    """
    One fresh namespace for one test.

    Attributes:
        namespace: A name that no other test has: lower-case letters, digits and "_", 24 characters.
        tmp: An empty folder of its own.
    """

    namespace: str
    tmp: Path

    def fill(self, template: str) -> str:
        """Return *template* with "{namespace}" and "{tmp}" filled."""
        return template.replace("{namespace}", self.namespace).replace("{tmp}", str(self.tmp))

    def bears_mark(self, url: str) -> bool:
        """Whether *url* lies in this place, so that what is there may be destroyed."""
        return self.namespace in url or str(self.tmp) in url

    @classmethod
    def make(cls, namespace: str | None = None) -> "Place":
        """Make a place, its namespace called *namespace*, which bears the mark, or by a name that nothing else has."""
        name = namespace or MARK + secrets.token_hex(6)[:11]
        return cls(name, Path(tempfile.mkdtemp(prefix=MARK)))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.tmp, ignore_errors=True)


@define(kw_only=True)
class Subject:
    """
    A storage to be tested.

    Attributes:
        label: How reports name it: the URL before it is filled, redacted.
        url_for: Gives the URL of the storage in a place.
        adapters: Import paths ("package.module" or "package.module:name") of plugins that are not installed as entry
            points. Child processes import them too.
        damage: Test aid: makes one stored record unreadable (R56).
        store_size: Test aid: bytes or records in use (R76).
        earlier_stores: Test aid: makers of unopened instances that make and use stores of an earlier schema, by its
            name; each gets a URL (R115, R116).
        make_newer: Test aid: makes a closed store newer than the adapter (R115, R116).
        unknown_fields: Test aid: what stands in the field that `make_newer` gave each job, by tracking id (R116).
        repeat: Words a shell command that repeats one rule, given its number and the seed.
    """

    label: str
    url_for: Callable[[Place], str]
    adapters: tuple[str, ...] = ()
    damage: Callable[[str, str], None] | None = None
    store_size: Callable[[str], int] | None = None
    earlier_stores: Mapping[str, Callable[[str], JobStorageProvider]] = field(
        factory=dict[str, Callable[[str], JobStorageProvider]]
    )
    make_newer: Callable[[str, NewerSchema], None] | None = None
    unknown_fields: Callable[[str], Mapping[str, object]] | None = None
    repeat: Callable[[str, int], str] = lambda number, seed: f"--pannier-rule {number} --pannier-seed {seed}"
    plugins: Plugins = Factory(lambda subject: load_plugins(subject.adapters), takes_self=True)

    def url_in(self, place: Place) -> str:
        """
        Return the storage's URL in *place*.

        Raises:
            ConfigurationError: The URL does not depend on the place, so it may name somebody's real data.
        """
        url = self.url_for(place)
        if not place.bears_mark(url):
            raise ConfigurationError(
                f"{StorageUrl(url)} names the same store for every test; put {{namespace}} or {{tmp}} into it, since "
                f"the suite only touches what it made itself"
            )
        return url

    def create(self, url: str) -> JobStorageProvider:
        """Make an unopened instance."""
        return self.plugins.create_storage(StorageUrl(url))

    def adapter(self, url: str) -> StorageAdapter:
        """Return the adapter that serves *url*."""
        return self.plugins.adapter_for(StorageUrl(url))

    async def destroy(self, url: str, place: Place) -> None:
        """Destroy what stands at *url*, if it bears the mark of *place*."""
        if place.bears_mark(url):
            await self.adapter(url).destroy(StorageUrl(url))

    def offers(self, storage: JobStorageProvider, url: str) -> frozenset[Need]:
        """Return every need that the opened *storage* meets."""
        capabilities = storage.capabilities
        met = {
            Need.DURABLE: capabilities.durable,
            Need.SHARED: capabilities.shared,
            Need.ATOMIC_BATCHES: capabilities.atomic_batches,
            Need.SINGLE_WRITER: capabilities.single_writer,
            Need.NETWORK: names_server(url),
            Need.EMBEDDED: not names_server(url),
            Need.DAMAGE: self.damage is not None,
            Need.STORE_SIZE: self.store_size is not None,
            Need.SCHEMA_HISTORY: bool(self.earlier_stores),
            Need.NEWER_SCHEMA: self.make_newer is not None and self.unknown_fields is not None,
        }
        return frozenset(need for need, is_met in met.items() if is_met) | {Need(name) for name in add_ons(storage)}


def names_server(url: str) -> bool:
    """Whether *url* names a server that a proxy can stand before: a port, or the folder of a Unix socket as ?host=."""
    place = urlsplit(url).netloc.rpartition("@")[2]
    return place.rpartition(":")[2].isdigit() or StorageUrl(url).options.get("host", "").startswith("/")


def with_timeout(url: str, timeout: timedelta) -> str:
    """
    Return *url* with another timeout: how long a call may take.

    An option of every storage that has a server or offers transactions; nobody else's URL is changed (R39, R109-R113).
    """
    parts = urlsplit(url)
    others = [option for option in parts.query.split("&") if option and option.partition("=")[0] != "timeout"]
    query = "&".join([*others, f"timeout={timeout.total_seconds():g}"])
    return f"{url.partition('?')[0]}?{query}"


def load_plugins(adapters: tuple[str, ...]) -> Plugins:
    """Return the installed plugins and those that *adapters* name by import path."""
    return Plugins.installed(map(import_plugin, adapters))


def import_plugin(path: str) -> object:
    """
    Import what "package.module" or "package.module:name" names.

    Raises:
        ConfigurationError: There is no such thing.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        return getattr(module, name) if name else module
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"no adapter plugin at {path!r}: {error}") from error


def import_path(plugin: object) -> str:
    """
    Return the import path of *plugin*, a module or a module's attribute, so that child processes can import it too.

    Raises:
        ConfigurationError: It can't be imported by name.
    """
    if isinstance(plugin, str):
        return plugin
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    module = importlib.import_module(type(plugin).__module__)
    for name, value in vars(module).items():
        if value is plugin:
            return f"{module.__name__}:{name}"
    raise ConfigurationError(f"give the adapter {plugin!r} as a string 'package.module:name': processes must import it")
