"""What a process holds of its system: descriptors, threads, tasks. For the rules of what is given back."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

from attrs import frozen

from pannier_testing.checks import BlockedError

_FOLDERS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
"""Where a system lists the descriptors of the process that asks."""

_CODE: Final = frozenset({".py", ".pyc", ".so"})
"""What an import holds open while it lasts: no concern of a storage."""

_EXECUTOR: Final = "asyncio_"
"""What the names of the threads begin with that `asyncio.to_thread` runs functions in."""


@frozen
class Held:
    """
    What a process holds at one moment.

    Attributes:
        descriptors: What each open descriptor leads to, sockets included.
        threads: The names of its live threads, but for those of event loops' own executors, which end with their loops.
        tasks: The running event loop's tasks, but for the one that asks.
    """

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    tasks: tuple[str, ...]

    @classmethod
    def now(cls) -> "Held":
        """
        Look.

        Raises:
            BlockedError: This system does not tell a process what it has open.
        """
        return cls(_descriptors(), _threads(), _tasks())

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind, by its name."""
        return {"descriptors": len(self.descriptors), "threads": len(self.threads), "tasks": len(self.tasks)}


def _descriptors() -> tuple[str, ...]:
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    if folder is None:
        raise BlockedError("this system has neither /proc/self/fd nor /dev/fd, by which open descriptors are counted")
    targets = []
    for number in sorted(map(int, os.listdir(folder))):  # noqa: PTH208  # Path.iterdir holds one open for longer
        try:
            target = os.readlink(folder / str(number))  # noqa: PTH115  # "socket:[1]" is no path
        except OSError:  # the one by which the folder was read, or a system that does not tell
            continue
        if Path(target).suffix not in _CODE:
            targets.append(target)
    return tuple(targets)


def _threads() -> tuple[str, ...]:
    return tuple(thread.name for thread in threading.enumerate() if not thread.name.startswith(_EXECUTOR))


def _tasks() -> tuple[str, ...]:
    try:
        asking = asyncio.current_task()
        return tuple(repr(task) for task in asyncio.all_tasks() if task is not asking)
    except RuntimeError:  # no loop runs here
        return ()
