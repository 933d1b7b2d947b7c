"""A thread that watches whether a storage blocks the event loop (R92)."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

ALLOWED: Final = 0.1
"""Seconds that an operation may hold the loop."""

_STEP: Final = 0.005


class LoopWatch:
    """
    Watches one thread for as long as it lends itself.

    The loop counts as blocked while one and the same frame of the storage's code is on its thread at every look, and
    the loop's own heart does not beat meanwhile. A machine that is merely slow starves the watcher, too.

    Attributes:
        longest: Seconds of the longest block.
        where: The function that blocked then.
    """

    def __init__(self, folders: frozenset[str]) -> None:
        self._folders = folders
        self._known: dict[str, bool] = {}
        self._beats = 0
        self._is_watching = True
        self.longest = 0.0
        self.where = ""

    @contextmanager
    def watching(self) -> Iterator["LoopWatch"]:
        """Watch the running loop meanwhile."""
        loop = asyncio.get_running_loop()
        heart = asyncio.ensure_future(self._beat())
        watcher = threading.Thread(target=self._watch, args=(threading.get_ident(),), name="loop-watch", daemon=True)
        watcher.start()
        try:
            yield self
        finally:
            self._is_watching = False
            loop.call_soon(heart.cancel)
            watcher.join()

    async def _beat(self) -> None:
        while True:
            self._beats += 1
            await asyncio.sleep(0)

    def _watch(self, thread: int) -> None:
        begun, seen, beats = time.monotonic(), None, -1
        while self._is_watching:
            frame = self._storage_frame(sys._current_frames().get(thread))
            now = time.monotonic()
            if frame is None or frame is not seen or beats != self._beats:
                begun, seen, beats = now, frame, self._beats
            elif now - begun > self.longest:
                self.longest, self.where = now - begun, frame.f_code.co_qualname
            time.sleep(_STEP)

    def _storage_frame(self, frame: FrameType | None) -> FrameType | None:
        """Return the outermost frame of the storage's own code: the verb that was called."""
        outermost = None
        while frame is not None:
            if self._is_storage(frame.f_code.co_filename):
                outermost = frame
            frame = frame.f_back
        return outermost

    def _is_storage(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = not self._folders.isdisjoint(map(str, Path(name).parents))
        return self._known[name]
