"""What processes do that meet a full disk, or files that they may not write or read (R90). Run in forks."""

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

from pannier.errors import StorageError
from pannier.records import Json
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.builders import new_id, new_job
from pannier_testing.subject import load_plugins

QUEUE_ID: Final = "disk"
NOBODY: Final = 65534
"""Whom a process becomes that is root, since root may write everything."""

_ROOM: Final = 256 * 1024
_TEXT: Final = "x" * 32 * 1024


async def fill_the_disk(storage: JobStorageProvider, *, folder: str, seed: int) -> Json:
    """Store jobs until no file may grow, then until they may again; tell what happened."""
    rng, stored, error = Random(seed), list[str](), ""
    with files_limited_to(_largest_file(Path(folder)) + _ROOM):
        while not error and len(stored) < 2000:
            job = new_job(new_id(rng), QUEUE_ID, command=_TEXT)
            error = await _error_of_storing(storage, job)
            stored += [] if error else [str(job.tracking_id)]
    after = new_job(new_id(rng), QUEUE_ID)
    return {
        "stored": [*stored],
        "error": error,
        "after": str(after.tracking_id),
        "error after": await _error_of_storing(storage, after),
    }


async def use_without_rights(
    storage: JobStorageProvider, *, where: str, adapters: list[str], folder: str, files: int, seed: int
) -> Json:
    """
    Give the files in *folder* the mode *files*, open *where* again as somebody whom it binds, and store a job.

    Returns:
        What was raised; "" for nothing.
    """
    await storage.close()
    # Before the rights are gone: somebody else may not be let to where Python and the adapter are installed.
    again = load_plugins(tuple(adapters)).create_storage(StorageUrl(where))
    _set_modes(Path(folder), files)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        await again.open()
    except StorageError:
        return "StorageError"
    except Exception as error:  # told to the test
        return f"{type(error).__qualname__}: {error}"
    try:
        return await _error_of_storing(again, new_job(new_id(Random(seed)), QUEUE_ID))
    finally:
        await again.close()


async def _error_of_storing(storage: JobStorageProvider, job: object) -> str:
    try:
        await storage.store_jobs([job])  # type: ignore[list-item]  # a JobRecord
    except StorageError:
        return "StorageError"
    except Exception as error:  # told to the test
        return f"{type(error).__qualname__}: {error}"
    return ""


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size* meanwhile."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def modes_kept(folder: Path) -> Iterator[None]:
    """Give *folder* and everything in it, in the end, the modes that they have now."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    try:
        yield
    finally:
        for path, mode in modes.items():
            with suppress(FileNotFoundError):  # a storage may have removed it, as the last user of a log does
                path.chmod(mode)


def _set_modes(folder: Path, files: int) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else files)


def _largest_file(folder: Path) -> int:
    return max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)
