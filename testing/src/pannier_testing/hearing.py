"""What a listener hears, for tests of notices."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from pannier.notices import Notice, NoticeKind
from pannier.storage import JobStorageProvider
from pannier_testing.checks import show
from pannier_testing.trial import notifier_of

PATIENCE: Final = 10.0
"""Seconds after which a notice counts as never sent."""

QUIET: Final = 0.08
"""Seconds without a notice after which what happened before is taken to be told."""


class Hearing:
    """
    What one listener hears, read by a task of its own, so that waiting for it can end without hurting it.

    Attributes:
        end: How the listening ended, if it did so by itself.
    """

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Notice | None] = asyncio.Queue()
        self.end = ""

    @classmethod
    @asynccontextmanager
    async def of(cls, storage: JobStorageProvider, *queue_ids: str) -> "AsyncIterator[Hearing]":
        """Listen to *queue_ids*."""
        hearing = cls()
        async with notifier_of(storage).listen(frozenset(queue_ids)) as notices:
            reader = asyncio.ensure_future(hearing._read(notices))
            try:
                yield hearing
            finally:
                reader.cancel()
                await asyncio.wait([reader])

    async def settled(self) -> None:
        """Wait until nothing comes any more, and forget what came."""
        notice: Notice | None
        with suppress(TimeoutError):
            while True:
                notice = await asyncio.wait_for(self._heard.get(), QUIET)
                if notice is None:
                    self._heard.put_nowait(None)
                    return

    async def until(self, is_it: Callable[[Notice], bool]) -> tuple[float | None, list[Notice]]:
        """
        Wait for a notice that is meant.

        Returns:
            After how many seconds it came, and what came until then. None: it did not come, or the listening ended.
        """
        began = time.monotonic()
        heard: list[Notice] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (notice := await self._heard.get()) is not None:
                    heard.append(notice)
                    if is_it(notice):
                        return time.monotonic() - began, heard
        return None, heard

    def told(self, heard: list[Notice]) -> str:
        """Return what to say of a wait in which only *heard* was heard."""
        return ", ".join([*map(show, heard), *filter(None, [self.end])]) or "nothing"

    async def _read(self, notices: AsyncIterator[Notice]) -> None:
        try:
            async for notice in notices:
                self._heard.put_nowait(notice)
            self.end = "the listening ended"
        except Exception as error:  # for the rule to judge
            self.end = f"the listening ended with {type(error).__qualname__}: {error}"
        self._heard.put_nowait(None)


def tells(notice: Notice, kind: NoticeKind, queue_id: str) -> bool:
    """Whether *notice* says that something of *kind* happened in a queue, or that anything may have."""
    return notice.kind is NoticeKind.MISSED or (notice.kind is kind and notice.queue_id == queue_id)
