"""
LMDB environments, one for each file in a process.

LMDB forbids opening a file twice in one process, so that all storages on it share one environment, which is closed with
the last of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from attrs import define
from pannier.storage import StorageClosedError

from pannier_lmdb import schema

if TYPE_CHECKING:
    import lmdb

# Address space, not disk or memory: the file grows with what is in it, up to this.
MAP_SIZE: Final = 2**36
# A file that may hold anything is its owner's alone.
MODE: Final = 0o700


@define
class _Shared:
    """An environment, the process that opened it, and how many storages use it."""

    environment: lmdb.Environment
    process: int
    users: int = 0


class Environments:
    """Lends out the environments of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shared: dict[Path, _Shared] = {}

    def borrow(self, path: Path) -> lmdb.Environment:
        """
        Return the environment of *path*, opened if it is not.

        Raises:
            SchemaTooNewError: A newer version made it.
            StorageClosedError: It was opened before this process was forked; LMDB's locks don't survive that.
        """
        with self._lock:
            shared = self._shared.get(path)
            if shared is None:
                shared = self._shared[path] = _Shared(_open(path), process=os.getpid())
            elif shared.process != os.getpid():
                raise StorageClosedError(f"{path} was opened before this process was forked: open storages afterwards")
            shared.users += 1
            return shared.environment

    def give_back(self, path: Path) -> None:
        """Take back what `borrow` returned; the last one closes it."""
        with self._lock:
            shared = self._shared[path]
            shared.users -= 1
            if not shared.users:
                del self._shared[path]
                shared.environment.close()


def _open(path: Path) -> lmdb.Environment:
    import lmdb  # only now: a plugin is loaded with every program

    environment = lmdb.open(os.fspath(path), map_size=MAP_SIZE, mode=MODE)
    try:
        environment.reader_check()  # readers that were killed would keep old pages alive
        with environment.begin(write=True) as transaction:
            schema.check(transaction)
    except BaseException:
        environment.close()
        raise
    return environment
