"""
For tests: the conformance suite of pannier's storages, the skeleton of a new one, and helpers for applications.

`pannier_testing.sync` has the helpers for tests without an event loop.

A name is imported when it is first asked for: pytest imports this package at each start, wherever it is installed, and
tests that use nothing of it are not to wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pannier_testing.applications.clock import ManualClock
    from pannier_testing.applications.draining import AttemptsFailedError, drain, run_due_jobs
    from pannier_testing.applications.faults import Fault, FaultyStorage
    from pannier_testing.applications.inline import run_inline
    from pannier_testing.applications.queued import queued_commands, queued_jobs
    from pannier_testing.storage_conformance import StorageConformance
    from pannier_testing.subject import NewerSchema, Place

__all__ = [
    "AttemptsFailedError",
    "Fault",
    "FaultyStorage",
    "ManualClock",
    "NewerSchema",
    "Place",
    "StorageConformance",
    "drain",
    "queued_commands",
    "queued_jobs",
    "run_due_jobs",
    "run_inline",
]

_HOMES: Final = {
    "AttemptsFailedError": "applications.draining",
    "Fault": "applications.faults",
    "FaultyStorage": "applications.faults",
    "ManualClock": "applications.clock",
    "NewerSchema": "subject",
    "Place": "subject",
    "StorageConformance": "storage_conformance",
    "drain": "applications.draining",
    "queued_commands": "applications.queued",
    "queued_jobs": "applications.queued",
    "run_due_jobs": "applications.draining",
    "run_inline": "applications.inline",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
