"""
The hooks that a plugin may implement. All are synchronous and must return at once: they run on the event loop.

Hooks configure and observe; execution is wrapped by middleware (`pannier.middleware`), which can await.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pluggy
from cattrs import Converter

from pannier.commands import Command
from pannier.events import JobEvent
from pannier.middleware import Middleware
from pannier.records import JobRecord

if TYPE_CHECKING:
    from pannier.storage import StorageAdapter

PROJECT: Final = "pannier"
"""The name of the hooks' project and of the entry-point group that plugins register under."""

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as the implementation of the hook whose name it bears."""


@hookspec
def pannier_storage_adapters() -> "Sequence[StorageAdapter]":
    """
    Offer storages.

    Called once, when the plugin is registered. Import the driver only in `StorageAdapter.create`.
    """
    return ()


@hookspec
def pannier_configure_converter(converter: Converter) -> None:
    """
    Teach *converter* the application's own types.

    Called for each converter that a `JobQueues` makes, before it is used. The names of types never come from storage.
    """


@hookspec
def pannier_job_metadata(command: Command[object]) -> Mapping[str, str]:
    """
    Return what is to be kept beside the job of *command*: tenant, trace context.

    Called while it is queued. Entries that the caller gives win over hooks', earlier plugins over later ones.
    """
    return {}


@hookspec
def pannier_middleware() -> Sequence[Middleware]:
    """Return middleware to wrap every execution in, outside of what `JobQueues` was given. Called once."""
    return ()


@hookspec(firstresult=True)
def pannier_retry_delay(job: JobRecord, error: Exception) -> timedelta | None:
    """
    Choose how long *job* waits before its next attempt.

    Called after a failed attempt that the command's retry policy would try again, before the job is settled.

    Returns:
        Zero or more; `None` lets the next plugin decide. The command's retry policy answers last.
    """


@hookspec
def pannier_job_event(event: JobEvent) -> None:
    """
    Observe what happens to jobs in this process.

    An exception raised here is logged and goes no further. Events are hints for people and metrics: after a crash some
    are missing, and after a lost reply one may come twice.
    """
