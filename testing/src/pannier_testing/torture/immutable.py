"""
Files that nobody can write, not even who has them open: the immutable flag of Linux (`chattr +i`).

A file system can't be made read-only beneath files that are open for writing, and root heeds no permissions. The flag
binds both; to set it takes the capability CAP_LINUX_IMMUTABLE, and a file system that knows it, such as ext4 or XFS.
"""

import fcntl
import os
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# linux/fs.h: FS_IOC_GETFLAGS is _IOR('f', 1, long), FS_IOC_SETFLAGS _IOW('f', 2, long); what they move is an int.
_GET_FLAGS: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_SET_FLAGS: Final = 1 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 2
_IMMUTABLE: Final = 0x10
_FLAGS: Final = struct.Struct("i")


@contextmanager
def immutable(files: Collection[Path]) -> Iterator[None]:
    """
    Let nobody write, rename or remove *files* for a while.

    Raises:
        OSError: The process may not do that, or the file system can't; nothing is left of it then.
    """
    made = list[Path]()
    try:
        for path in files:
            with suppress(FileNotFoundError):  # whose file it is has removed it meanwhile
                _set_immutable(path, is_immutable=True)
                made.append(path)
        yield
    finally:
        for path in made:
            _set_immutable(path, is_immutable=False)


def can_be_immutable(folder: Path) -> bool:
    """Whether files in *folder* can be made immutable, by this process on this system."""
    probe = folder / "probe"
    probe.touch()
    try:
        with immutable([probe]):
            pass
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def _set_immutable(path: Path, *, is_immutable: bool) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        [flags] = _FLAGS.unpack(fcntl.ioctl(file, _GET_FLAGS, bytes(_FLAGS.size)))
        wanted = flags | _IMMUTABLE if is_immutable else flags & ~_IMMUTABLE
        fcntl.ioctl(file, _SET_FLAGS, _FLAGS.pack(wanted))
    finally:
        os.close(file)
