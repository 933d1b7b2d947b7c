"""TARGET: the job queues or the storage that a command works on."""

import importlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import attrs
import typer

from pannier.cli.words import kind_of
from pannier.errors import ConfigurationError, NotSupportedError
from pannier.queues import JobQueues
from pannier.storage import JobInspector

VARIABLE: Final = "PANNIER_STORAGE"
"""Names the target where the command line does not. Keeps a password out of the list of processes."""

Target: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        envvar=VARIABLE,
        help="MODULE:JOBS, where JOBS is a JobQueues in MODULE, or a storage URL such as sqlite:///jobs.db.",
        show_default=False,
    ),
]

TargetOrId: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="TARGET",
        envvar=VARIABLE,
        help="Where the jobs are, as MODULE:JOBS or a storage URL.",
        show_default=False,
    ),
]

Ids: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="TRACKING_ID", help="Which jobs.", show_default=False)
]


@attrs.define
class TargetError(ConfigurationError):
    """
    A target can't be used.

    Attributes:
        target: The target, redacted if it is a URL.
        reason: What is wrong with it, and what to do.
    """

    target: str
    reason: str

    def __str__(self) -> str:
        return f"{self.target!r} can't be used: {self.reason}"


def job_queues_of(target: str) -> JobQueues:
    """
    Return the unopened job queues that *target* names; those of a storage URL know no commands.

    Raises:
        ConfigurationError: It names none. Where importing its module failed, the cause is what was raised there.
    """
    if "://" in target:
        return JobQueues(target)
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise TargetError(target, "a target is MODULE:JOBS, or a storage URL such as sqlite:///jobs.db")
    module = _imported(module_name, target)
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    if isinstance(found, JobQueues):
        return found
    known = sorted(name for name, value in vars(module).items() if isinstance(value, JobQueues))
    hint = f"the JobQueues there: {', '.join(known) or 'none'}"
    what = f"there is no {path!r} in {module_name!r}" if found is None else f"it is no JobQueues but {kind_of(found)}"
    raise TargetError(target, f"{what}; {hint}")


@asynccontextmanager
async def opened(target: str) -> AsyncIterator[JobQueues]:
    """
    Open the job queues that *target* names, to look at them.

    A storage that only a URL names has to be there: a look at a misspelled one would make it.

    Raises:
        ConfigurationError: It names none, or there is no such storage.
        StorageError: It can't be opened.
    """
    jobs = job_queues_of(target)
    if "://" in target and not await jobs.source.exists():
        raise TargetError(jobs.storage_name, "there is no such storage; a program that queues jobs there makes it")
    async with jobs:
        yield jobs


def target_and_ids(first: str | None, others: Sequence[str] | None) -> tuple[str, list[UUID]]:
    """
    Tell a leading target from tracking ids: a target has a colon in it, an id has none.

    Raises:
        BadParameter: There is no target, no id, or something that is neither.
    """
    target, ids = (
        (first, others or ()) if first and ":" in first else (os.environ.get(VARIABLE), [first, *(others or ())])
    )
    if not target:
        raise typer.BadParameter(f"name the target before the ids, or set {VARIABLE}")
    if not ids:
        raise typer.BadParameter("name at least one tracking id after the target")
    return target, [_tracking_id(text or "") for text in ids]


def inspector_of(jobs: JobQueues) -> JobInspector:
    """
    Return the add-on that lists, counts and requeues.

    Raises:
        NotSupportedError: The storage does not offer it.
    """
    inspector = jobs.session.inspector
    if inspector is None:
        raise NotSupportedError(f"{jobs.storage_name} can't list, count or requeue jobs: it lacks the add-on 'inspect'")
    return inspector


def _imported(name: str, target: str) -> ModuleType:
    """Import the module *name*, also from the working directory, as `python -m` would."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetError(target, f"there is no module {error.name!r} here or on the path") from None
        raise TargetError(target, f"importing {name!r} failed: {error}") from error
    except ConfigurationError:
        raise  # it says by itself what is wrong
    except Exception as error:  # another's module may raise anything
        raise TargetError(target, f"importing {name!r} failed: {type(error).__name__}: {error}") from error


def _tracking_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no tracking id") from None
