"""`pannier ping` asks a storage; `pannier adapters` says which storages there are, and what one of them can do."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pannier.cli.durations import spell
from pannier.cli.extensions import broken_commands
from pannier.cli.health import NOBODY
from pannier.cli.showing import console, table
from pannier.cli.targets import Target, opened
from pannier.cli.words import printable
from pannier.hookspecs import PROJECT
from pannier.plugins import OFFICIAL_ADAPTERS, Plugins
from pannier.storage import ADD_ONS, Capabilities, StorageAdapter, add_ons


def ping(target: Target) -> None:
    """Open the storage and ask it a question; exit code 69 if it does not answer."""
    name, took = asyncio.run(_ping(target))
    print(f"{name} answers in {spell(took)}")


def adapters(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="MODULE:JOBS or a storage URL: open it, and say what it can do.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say which storages are installed; given one, open it and say what it can do."""
    if target is not None:
        console().print(asyncio.run(_describe(target)))
        return
    plugins = Plugins.installed()
    console().print(Group(_installed(plugins), *_options(plugins.adapters.values()), *_broken(plugins)))


async def _ping(target: str) -> tuple[str, timedelta]:
    async with opened(target) as jobs:
        began = time.perf_counter()
        await jobs.storage.get_job(NOBODY)
        return jobs.storage_name, timedelta(seconds=time.perf_counter() - began)


async def _describe(target: str) -> Table:
    async with opened(target) as jobs:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold")
        facts.add_row("storage", Text(printable(jobs.storage_name)))
        for name, value in capability_facts(jobs.storage.capabilities, add_ons(jobs.storage)).items():
            facts.add_row(name, value)
        return facts


def capability_facts(capabilities: Capabilities, offered: frozenset[str]) -> Mapping[str, str]:
    """Word what an opened storage can do."""
    limit = capabilities.max_payload
    return {
        "survives a crash": _yes_or_no(capabilities.durable),
        "many processes": _yes_or_no(capabilities.shared),
        "batches are atomic": _yes_or_no(capabilities.atomic_batches),
        "many writers at once": _yes_or_no(not capabilities.single_writer),
        "time resolution": f"{capabilities.time_resolution / timedelta(microseconds=1):g} µs",
        "largest payload": "no limit of its own" if limit is None else f"{limit:,} bytes",
        **{f"add-on {name}": _yes_or_no(name in offered) for name in ADD_ONS},
    }


def _yes_or_no(answer: bool) -> str:
    return "yes" if answer else "no"


def _installed(plugins: Plugins) -> Table:
    found = {entry.name: entry for entry in entry_points(group=PROJECT)}
    listing = table("adapter", "URL schemes", "contract", "package")
    for adapter in {id(each): each for each in plugins.adapters.values()}.values():
        schemes = "  ".join(f"{scheme}://" for scheme in adapter.schemes)
        listing.add_row(adapter.name, schemes, adapter.contract_version, _package(found.get(adapter.name)))
    missing = dict.fromkeys(name for scheme, name in OFFICIAL_ADAPTERS.items() if scheme not in plugins.adapters)
    for name in missing:
        if name not in plugins.broken:
            schemes = "  ".join(f"{scheme}://" for scheme, owner in OFFICIAL_ADAPTERS.items() if owner == name)
            listing.add_row(name, schemes, "", f"pip install pannier-{name}", style="dim")
    return listing


def _options(offered: Iterable[StorageAdapter]) -> Iterable[Group]:
    for adapter in {id(each): each for each in offered}.values():
        if adapter.options:
            options = Table.grid(padding=(0, 2))
            for name, meaning in adapter.options.items():
                options.add_row(f"  ?{name}=", Text(meaning))
            yield Group(Text(f"URL options of {adapter.name}", "bold"), options, Text(""))


def _broken(plugins: Plugins) -> Iterable[Text]:
    for error in (*plugins.broken.values(), *broken_commands()):
        yield Text(printable(str(error)), "red")


def _package(entry: EntryPoint | None) -> str:
    distribution = entry.dist if entry is not None else None
    return f"{distribution.name} {distribution.version}" if distribution is not None else ""
