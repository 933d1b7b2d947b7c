"""The files that this process has open: what keeps SQLite's locks whole, which belong to a process."""

import os
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from pannier.errors import StorageClosedError

Identity: TypeAlias = tuple[int, int]


class OpenFiles:
    """
    Which database files are open through one plugin object, and in which process they were opened.

    A forked child inherits SQLite's notes about the locks of its parent, but not the locks. A connection that it opens
    to the same file believes itself locked; when the parent closes, the write-ahead log is deleted under the child, and
    what it commits from then on is lost, though it was acknowledged. So such a child is refused.
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: Counter[tuple[Identity, int]] = Counter()

    def enter(self, path: Path) -> Identity:
        """
        Create *path* if it does not exist, and note that this process opens it.

        Raises:
            OSError: It can't be created.
            StorageClosedError: It was open in a process that this one was forked from.
        """
        with self._lock:  # nobody of ours opens the file between its creation and the end of it
            _create(path)
            status = path.stat()
            identity = status.st_dev, status.st_ino
            for held, pid in self._open:
                if held == identity and pid != os.getpid():
                    raise StorageClosedError(
                        f"{path} was open in process {pid} when this one was forked from it, and SQLite's locks do not "
                        f"survive a fork; open storages after forking, or start processes by spawning them"
                    )
            self._open[identity, os.getpid()] += 1
            return identity

    def leave(self, identity: Identity) -> None:
        """Note that an instance of this process has closed the file."""
        with self._lock:
            held = identity, os.getpid()
            self._open[held] -= 1
            if not self._open[held]:
                del self._open[held]


def _create(path: Path) -> None:
    """
    Make *path*, for its owner alone, unless it exists: what jobs carry is as private as mail.

    An existing file is not even opened: closing any descriptor of it would drop all locks of this process there.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
