"""Several worker processes: started, replaced when they die, stopped together."""

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Final

from pannier.backoff import Backoff
from pannier.cli.exits import ExitCode
from pannier.cli.health import fresh_health_file, part_of, show_health_of_all
from pannier.cli.stopping import handle_stop_signals

logger = logging.getLogger("pannier.processes")

LONGEST_PAUSE: Final = timedelta(seconds=30)
"""Between the death of a process and its replacement, if it dies again and again."""

SETTLED_SECONDS: Final = 60.0
"""A process that has lived so long does not count as dying again and again."""


async def supervise(arguments: Sequence[str], *, processes: int, health: Path | None) -> int:
    """
    Keep *processes* worker processes running until a stop is asked for.

    Stop signals are passed on to all of them, the second one as an immediate end. A process that dies is replaced,
    after a pause that grows if it goes on dying; only one that says its configuration is wrong ends them all.

    Args:
        arguments: What each of them gets after `pannier worker`.
        processes: How many.
        health: Touched while all of them show signs of life.

    Returns:
        The exit code, once all have ended.
    """
    supervisor = Supervisor(arguments, health)
    with ExitStack() as stack:
        stack.enter_context(supervisor.forwarding())
        slots = range(1, processes + 1)
        if health is not None:
            for path in (health, *(part_of(health, slot) for slot in slots)):
                stack.enter_context(fresh_health_file(path))
        return await supervisor.run(slots)


class Supervisor:
    """The parent of worker processes. Used on one event loop, once."""

    def __init__(self, arguments: Sequence[str], health: Path | None) -> None:
        self._arguments = arguments
        self._health = health
        self._children: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._signals: list[int] = []
        self._code = int(ExitCode.DONE)

    def forwarding(self) -> AbstractContextManager[None]:
        """Pass stop signals on while entered."""
        loop = asyncio.get_running_loop()
        return handle_stop_signals(lambda number: loop.call_soon_threadsafe(self._signalled, number))

    async def run(self, slots: Sequence[int]) -> int:
        """Keep a process in each of *slots* until a stop is asked for; return the exit code."""
        showing = asyncio.create_task(self._show_health(slots))
        try:
            await asyncio.gather(*map(self._keep, slots))
        finally:
            showing.cancel()
        return 128 + self._signals[1] if len(self._signals) > 1 else self._code

    async def _keep(self, slot: int) -> None:
        """Run one process after the other."""
        backoff = Backoff(LONGEST_PAUSE, Random())
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._live(slot)
            if self._stopping.is_set():
                self._note_end(code)
                return
            if code == ExitCode.CONFIGURATION:
                logger.error("worker process %d says that its configuration is wrong; stopping the others", slot)
                self._code = code
                self._stop(signal.SIGTERM)
                return
            if loop.time() - began >= SETTLED_SECONDS:
                backoff.reset()
            seconds = backoff.next_seconds()
            logger.warning("worker process %d %s; another one starts in %.1f s", slot, _worded(code), seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _live(self, slot: int) -> int:
        """Start a process, and wait until it has ended."""
        health = [f"--health-file={part_of(self._health, slot)}"] if self._health is not None else []
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pannier.cli", "worker", "--stop-at-eof", *health, *self._arguments),
            stdin=asyncio.subprocess.PIPE,  # ends when this process does, however that happens
            # A Ctrl-C reaches the whole foreground group: each child would get it twice, and take it for insistence.
            process_group=0 if os.name == "posix" else None,
        )
        self._children[slot] = child
        for number in self._signals:  # they came while it was being started
            _tell(child, number)
        logger.info("worker process %d is %d", slot, child.pid)
        code = await child.wait()
        del self._children[slot]
        if self._health is not None:
            part_of(self._health, slot).unlink(missing_ok=True)
        return code

    async def _show_health(self, slots: Sequence[int]) -> None:
        if self._health is not None:
            health = self._health
            await show_health_of_all(health, lambda: [part_of(health, slot) for slot in slots])

    def _signalled(self, number: int) -> None:
        if len(self._signals) < 2:
            logger.info("%s: %s", signal.Signals(number).name, "ending at once" if self._signals else "stopping")
            self._stop(number)

    def _stop(self, number: int) -> None:
        self._signals.append(number)
        self._stopping.set()
        for child in self._children.values():
            if len(self._signals) > 1:
                child.kill()
            else:
                _tell(child, number)

    def _note_end(self, code: int) -> None:
        """Keep the first code that is not the end that was asked for."""
        if self._code == ExitCode.DONE and code not in {ExitCode.DONE, *(-number for number in self._signals)}:
            self._code = code if code > 0 else ExitCode.FAILED


def _tell(child: Process, number: int) -> None:
    """Ask *child* to stop. Windows has no such signal; there the end of its input asks."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            child.send_signal(number)
    elif child.stdin is not None:
        child.stdin.close()


def _worded(code: int) -> str:
    if code == ExitCode.OVERRUN:
        return "ended itself, because a handler was about to outlive its lease (75)"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with {code}"
