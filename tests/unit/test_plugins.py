"""Plugins: validated whole, then registered; a broken one is left out, and told to who asks for it."""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from pannier import JobQueues, hookimpl
from pannier.errors import (
    BrokenPluginError,
    ConfigurationError,
    ContractVersionError,
    DuplicateSchemeError,
    UnknownSchemeError,
)
from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from tests.engine.troubled import TroubledStorage

PIGEON = StorageUrl("pigeon://loft")


async def destroy(_: StorageUrl) -> None:
    """Nothing was made."""


def adapter(**fields: object) -> StorageAdapter:
    """Return an adapter for pigeon://, with other *fields*."""
    usual: Mapping[str, object] = {
        "name": "pigeon",
        "schemes": ("pigeon",),
        "create": lambda _: TroubledStorage(),
        "destroy": destroy,
    }
    return StorageAdapter(**{**usual, **fields})  # type: ignore[arg-type]


class Offering:
    """A plugin that offers adapters."""

    def __init__(self, *adapters: object) -> None:
        self.adapters = adapters

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[object]:
        return self.adapters


def entry(name: str) -> EntryPoint:
    """Return an entry point that names something in this module."""
    return EntryPoint(name=name, value=f"{__name__}:{name}", group="pannier")


def test_a_plugin_passed_in_needs_no_entry_point() -> None:
    """A test or a program of one file brings its own storage."""
    jobs = JobQueues("pigeon://loft", plugins=[Offering(adapter())])
    assert isinstance(jobs.source.create(), TroubledStorage)


def test_an_unknown_scheme_lists_what_is_installed_and_suggests() -> None:
    """The message has the close match; the official adapter's install command where it is one."""
    with pytest.raises(UnknownSchemeError, match="did you mean 'sqlite'") as raised:
        JobQueues("sqlit:///jobs.db")
    assert {"memory", "sqlite"} <= set(raised.value.installed)
    with pytest.raises(UnknownSchemeError, match="pip install pannier-mongo"):
        Plugins().adapter_for(StorageUrl("mongodb+srv://host/db"))


def test_two_adapters_for_one_scheme_are_an_error_that_names_both() -> None:
    """Which of them would be used must not hang on the order of installation."""
    plugins = Plugins()
    plugins.register(Offering(adapter()), name="one")
    with pytest.raises(DuplicateSchemeError, match="'pigeon' is served by 'one' and 'two'"):
        plugins.register(Offering(adapter()), name="two")
    assert plugins.adapters["pigeon"].name == "pigeon"


class WithUnknownHook:
    """Misspells a hook."""

    @hookimpl
    def pannier_storage_adapter(self) -> None:
        """Do nothing."""


class WithUnknownArgument:
    """Asks for what the hook does not give."""

    @hookimpl
    def pannier_job_event(self, evnt: object) -> None:
        """Do nothing."""


class WithFault:
    """Raises when it is asked."""

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        raise LookupError("out of pigeons")


BROKEN = [
    (WithUnknownHook(), "unknown hook 'pannier_storage_adapter'"),
    (WithUnknownArgument(), "evnt"),
    (WithFault(), "pannier_storage_adapters raised LookupError: out of pigeons"),
    (SimpleNamespace(), "it implements no hook"),
    (Offering("pigeon"), "gave a str, no StorageAdapter"),
    (Offering(adapter(schemes=())), r"bad schemes \(\)"),
    (Offering(adapter(schemes=("Pigeon",))), "bad schemes"),
    (Offering(adapter(schemes=("pigeon://",))), "bad schemes"),
    (Offering(adapter(create=None)), "needs callables as create and destroy"),
    (Offering(adapter(destroy="rm")), "needs callables as create and destroy"),
    (Offering(adapter(contract_version="one")), "contract version 'one', not 'major.minor'"),
    (Offering(adapter(), "second"), "gave a str, no StorageAdapter"),
]


@pytest.mark.parametrize(("plugin", "reason"), BROKEN)
def test_a_broken_plugin_is_refused_whole(plugin: object, reason: str) -> None:
    """It names plugin and fault, and nothing of it is registered: not even the part that was right."""
    plugins = Plugins()
    with pytest.raises(BrokenPluginError, match=f"(?s)plugin 'mine' can't be used: .*{reason}"):
        plugins.register(plugin, name="mine")
    assert plugins.adapters == {}
    assert plugins.hook.pannier_storage_adapters() == []
    assert plugins.hook.pannier_job_event.get_hookimpls() == []


def test_a_broken_plugin_that_was_passed_in_is_an_error() -> None:
    """It was asked for."""
    with pytest.raises(BrokenPluginError, match="out of pigeons"):
        JobQueues("memory://", plugins=[WithFault()])


faulty = WithFault()
pigeon = Offering(adapter())


def test_a_broken_one_that_is_installed_is_left_out_and_reported() -> None:
    """The others work; whoever looks at `broken` finds its name and the reason."""
    plugins = Plugins()
    plugins.load([entry("faulty"), entry("missing"), entry("pigeon")])
    assert list(plugins.adapters) == ["pigeon"]
    assert {name: error.plugin for name, error in plugins.broken.items()} == {"faulty": "faulty", "missing": "missing"}
    assert "can't be imported: AttributeError" in str(plugins.broken["missing"])


def test_a_broken_one_that_is_asked_for_is_an_error() -> None:
    """By the scheme that bears its name."""
    plugins = Plugins()
    plugins.load([EntryPoint(name="sqlite", value=f"{__name__}:faulty", group="pannier")])
    with pytest.raises(BrokenPluginError, match="out of pigeons"):
        plugins.create_storage(StorageUrl("sqlite:///jobs.db"))


def test_an_installed_plugin_that_was_passed_in_is_registered_once() -> None:
    """The same object, found twice."""
    plugins = Plugins()
    plugins.register(pigeon)
    plugins.load([entry("pigeon")])
    assert plugins.broken == {}


def test_another_major_version_of_the_contract_is_an_error_that_names_both() -> None:
    """When its storage is asked for, since the plugin may have hooks that work."""
    plugins = Plugins()
    plugins.register(Offering(adapter(contract_version="2.0")))
    with pytest.raises(ContractVersionError, match=r"'pigeon' follows contract 2.0, this pannier follows 1\."):
        plugins.create_storage(PIGEON)


@pytest.mark.parametrize("version", ["1.0", "1.7"])
def test_another_minor_version_works(version: str) -> None:
    """It lacks newer parts, or has some that are not used."""
    plugins = Plugins()
    plugins.register(Offering(adapter(contract_version=version)))
    assert isinstance(plugins.create_storage(PIGEON), JobStorageProvider)


def test_a_driver_that_is_missing_is_told_with_the_plugin() -> None:
    """It is imported when a storage is made, and only then."""

    def create(_: StorageUrl) -> JobStorageProvider:
        raise ImportError("No module named 'loft'", name="loft")

    plugins = Plugins()
    plugins.register(Offering(adapter(create=create)))
    with pytest.raises(BrokenPluginError, match="'pigeon' can't be used: its driver can't be imported"):
        plugins.create_storage(PIGEON)


def test_plugins_of_one_job_queues_are_not_those_of_another() -> None:
    """There is no global registry."""
    JobQueues("pigeon://loft", plugins=[Offering(adapter())])
    with pytest.raises(UnknownSchemeError):
        JobQueues("pigeon://loft")


@pytest.mark.parametrize("storage", [None, 5, object()])
def test_what_is_neither_url_nor_provider_is_refused(storage: object) -> None:
    """The message says what a storage is."""
    with pytest.raises(ConfigurationError, match="a storage is a URL or implements"):
        JobQueues(storage)  # type: ignore[arg-type]


async def nowhere(_: StorageUrl) -> bool:
    """Say that there is no such storage."""
    return False


@pytest.mark.parametrize(("exists", "answer"), [(None, True), (nowhere, False)])
def test_whether_a_storage_is_there_is_asked_of_its_adapter(exists: object, *, answer: bool) -> None:
    """One that can't tell without opening it is taken to be there."""
    jobs = JobQueues("pigeon://loft", plugins=[Offering(adapter(exists=exists))])
    assert asyncio.run(jobs.source.exists()) is answer


def test_a_provider_that_was_given_is_there() -> None:
    """Nobody else could tell."""
    assert asyncio.run(JobQueues(TroubledStorage()).source.exists()) is True


def test_a_fresh_sqlite_file_is_not_there_and_asking_makes_none(tmp_path: Path) -> None:
    """Asked without a trace."""
    jobs = JobQueues(f"sqlite:///{tmp_path}/jobs.db")
    assert asyncio.run(jobs.source.exists()) is False
    assert list(tmp_path.iterdir()) == []
