"""
The health file: a sign of life that anything which can look at a file's age can read.

It is touched every `TOUCH_SECONDS` while the worker's event loop runs and its storage answers, and removed at the end.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from pannier.errors import ConfigurationError
from pannier.storage import JobStorageProvider

logger = logging.getLogger("pannier.worker")

TOUCH_SECONDS: Final = 5.0
STALE_SECONDS: Final = 30.0
"""A health file that is older is no sign of life."""

NOBODY: Final = UUID(int=0)
"""No job has this id; asking for it is the cheapest question that a storage has to answer itself."""


@contextmanager
def fresh_health_file(path: Path) -> Iterator[None]:
    """
    Remove what an earlier worker has left at *path*, and remove the file at the end.

    Raises:
        ConfigurationError: It can't be written.
    """
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise ConfigurationError(f"the health file {str(path)!r} can't be written: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def show_health(path: Path, storage: JobStorageProvider) -> None:
    """Touch *path* again and again, as long as *storage* answers. Runs until cancelled."""
    while True:
        try:
            async with asyncio.timeout(STALE_SECONDS):
                await storage.get_job(NOBODY)
        except Exception as error:  # whatever a storage raises, the file grows old meanwhile
            logger.warning("the storage does not answer, so the health file is not touched: %s", error)
        else:
            _touch(path)
        await asyncio.sleep(TOUCH_SECONDS)


async def show_health_of_all(path: Path, parts: Callable[[], Sequence[Path]]) -> None:
    """Touch *path* again and again, as long as all the health files *parts* are fresh. Runs until cancelled."""
    while True:
        if all(map(_is_fresh, parts())):
            _touch(path)
        await asyncio.sleep(TOUCH_SECONDS / 5)


def part_of(path: Path, slot: int) -> Path:
    """Return the health file of the worker process *slot*, where *path* speaks for all of them."""
    return path.with_name(f"{path.name}.{slot}")


def _is_fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except FileNotFoundError:
        return False


def _touch(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        logger.warning("the health file %r can't be touched: %s", str(path), error.strerror)
