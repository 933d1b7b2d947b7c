"""
How much of a processor this process wants, for R113.

What it gets says little on a busy machine: of many loops without a pause each gets a few per cent. Linux tells for how
long each thread was ready to run and had to wait, which is taken off the time that it is measured against.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

from attrs import frozen

NANOSECONDS: Final = 1e9

_TASKS: Final = Path("/proc/self/task")


@frozen
class Used:
    """
    What one thread, or a whole process, has used so far.

    Attributes:
        ran: Seconds on a processor.
        waited: Seconds in which it was ready to run, and others ran.
    """

    ran: float
    waited: float


async def share_of_a_processor(seconds: float) -> float:
    """Return how busy this process is for so many seconds: 1.0 is one thread that never pauses."""
    before, began = used_by_threads(), time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    shares = 0.0
    for thread, after in used_by_threads().items():
        first = before.get(thread, Used(0.0, 0.0))
        waited = min(after.waited - first.waited, 0.99 * passed)
        shares += (after.ran - first.ran) / (passed - waited)
    return shares


def used_by_threads() -> dict[str, Used]:
    """Return what each thread has used, or the process as a whole where the system tells no more."""
    used: dict[str, Used] = {}
    for task in _TASKS.glob("*/schedstat"):
        try:
            ran, waited, _ = task.read_text().split()
        except OSError:  # it has just ended
            continue
        used[task.parent.name] = Used(int(ran) / NANOSECONDS, int(waited) / NANOSECONDS)
    return used or {"all": Used(time.process_time(), 0.0)}
