"""Stopping: what asks a running command to end."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handle_stop_signals(handle: Callable[[int], object]) -> Iterator[None]:
    """Call *handle* with the number of each stop signal, in the main thread, even while its event loop is blocked."""

    def handler(number: int, _: FrameType | None) -> None:
        handle(number)

    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set *stop* on the first stop signal; the second one ends the process at once, as the system would."""
    loop = asyncio.get_running_loop()

    def ask(_: int) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stop.set)

    with handle_stop_signals(ask):
        yield


def stop_at_end_of_input(stop: asyncio.Event) -> None:
    """
    Set *stop* when the standard input ends: whoever started this process has closed it, or is dead.

    The thread reads the descriptor itself: one that waits inside of `sys.stdin` at exit aborts the interpreter.
    """
    loop = asyncio.get_running_loop()

    def wait() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    Thread(target=wait, name="pannier end of input", daemon=True).start()
