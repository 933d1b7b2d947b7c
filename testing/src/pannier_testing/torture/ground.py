"""
What the processes of a run share beside the storage: a journal, and a board with a few numbers.

The journal is a file to which everybody appends, each line by a single write: what was written survives the writer's
SIGKILL. It is what the storage is judged by, so a storage that forgets cannot hide it.
"""

import errno
import json
import os
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pannier.records import Json
from pannier_testing.wire import to_line

if TYPE_CHECKING:
    from uuid import UUID

BEGIN: Final = b'{"what"'
"""How each line begins."""

SEATS: Final = 64
_NUMBER: Final = struct.Struct("d")
_ALLOWED, _OFFSETS = 0, 1


class Journal:
    """
    Appends lines.

    Attributes:
        fences: Under which fence this process holds each job; whoever writes a line about a handler looks here.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._pid = os.getpid()
        self.fences: dict[UUID, int] = {}

    def note(self, what: str, **about: Json) -> None:
        """Append one line, with this process's id and the time."""
        line = to_line({"what": what, "pid": self._pid, "at": time.time(), **about})
        try:
            os.write(self._file, line)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            self._write_past_the_limit(line)

    def _write_past_the_limit(self, line: bytes) -> None:
        """The disk is full for the storage (`faults.fill_disk`), not for the witness."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        try:
            os.write(self._file, line)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Tail:
    """Reads the journal as it grows."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "journal", os.O_RDONLY | os.O_CREAT, 0o644)
        self._rest = b""

    def lines(self) -> Iterator[bytes]:
        """Give what has come since the last time, whole lines only."""
        while piece := os.read(self._file, 1 << 20):
            *whole, self._rest = (self._rest + piece).split(b"\n")
            yield from whole

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def parse(line: bytes) -> dict[str, Any] | None:
    """
    Return what a line of the journal says.

    A write that a kill cut short has no end of line, and the next line continues it: what was cut is left out, since
    its writer was killed before anything could follow from it.
    """
    try:
        parsed: dict[str, Any] = json.loads(line[max(line.rfind(BEGIN), 0) :])
    except ValueError:
        return None
    return parsed


class Board:
    """
    Numbers in a file: how many jobs may be queued so far, and by how much each seat's wall clock is off.

    A seat is the place of a process; whoever replaces a killed one takes his seat.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "board", os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(self._file).st_size == 0:
            os.pwrite(self._file, bytes(_NUMBER.size * (_OFFSETS + SEATS)), 0)

    @property
    def allowed(self) -> int:
        """How many jobs may have been queued by now."""
        return int(self._get(_ALLOWED))

    def allow(self, jobs: int) -> None:
        """Let so many jobs be queued, all in all."""
        self._put(_ALLOWED, jobs)

    def offset(self, seat: int) -> float:
        """Return by how many seconds the wall clock at *seat* is wrong."""
        return self._get(_OFFSETS + seat)

    def set_clock(self, seat: int, *, off_by: float) -> None:
        """Let the wall clock at *seat* be wrong by so many seconds from now on."""
        self._put(_OFFSETS + seat, off_by)

    def _get(self, index: int) -> float:
        found: float = _NUMBER.unpack(os.pread(self._file, _NUMBER.size, index * _NUMBER.size))[0]
        return found

    def _put(self, index: int, number: float) -> None:
        os.pwrite(self._file, _NUMBER.pack(number), index * _NUMBER.size)
