"""
What one sample is asked for, and the job that every contestant does.

Needs nothing but the standard library: peers run this in environments without pannier.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

Answer = Mapping[str, float]
"""What a sample measured, by unit: `{"jobs/s": 31000.0}`."""

Sampler = Callable[["Task"], Answer]


@dataclass(frozen=True, kw_only=True)
class Task:
    """
    One sample.

    Attributes:
        storage: Where the jobs are kept: memory, sqlite, sqlite-normal, postgres, mongo.
        folder: For whatever the sample writes; removed after it.
        server: The URL of an empty database, where the storage has a server.
        jobs: How many jobs, or how many calls.
        concurrency: How many jobs a worker runs at once.
        callers: How many callers queue jobs at the same time.
        batch: How many jobs one call queues.
        waiting: How many jobs wait in the storage meanwhile.
        workers: How many worker processes, or threads.
        seconds: How long to watch.
    """

    storage: str
    folder: Path
    server: str = ""
    jobs: int = 0
    concurrency: int = 100
    callers: int = 1
    batch: int = 1
    waiting: int = 0
    workers: int = 1
    seconds: int = 0

    @classmethod
    def of(cls, storage: str, folder: Path, numbers: Mapping[str, int], *, server: str = "") -> "Task":
        """Return the task with these *numbers*, by name."""
        return cls(storage=storage, folder=folder, server=server, **numbers)

    def to_json(self) -> str:
        """Write it for another process."""
        return json.dumps({**vars(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Read what `to_json` wrote."""
        told = json.loads(text)
        return cls(**{**told, "folder": Path(told["folder"])})

    @property
    def path(self) -> Path:
        """A database file in its folder."""
        return self.folder / "jobs.db"


def payload(number: int) -> dict[str, object]:
    """Return the arguments of the job *number*: about 100 bytes as JSON."""
    return {"number": number, "path": "uploads/2026/11/portrait-of-a-cat.png", "width": 256, "format": "webp"}


class Stopwatch:
    """Measures how long a block takes, by the wall and by the processor. Both are set at its end."""

    seconds = math.nan
    cpu_seconds = math.nan


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time the block."""
    watch, start, cpu_start = Stopwatch(), time.perf_counter(), time.process_time()
    yield watch
    watch.seconds, watch.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start


def rate(jobs: int, watch: Stopwatch) -> Answer:
    """Answer how many *jobs* a second were done, and what one cost this process: that holds on a busy machine, too."""
    return {"jobs/s": jobs / watch.seconds, "cpu us a job": watch.cpu_seconds / jobs * 1e6}


def percentiles(seconds: Sequence[float]) -> Answer:
    """Answer how long it took, at the median and near the worst, in milliseconds."""
    ordered = sorted(seconds)
    return {f"p{p} ms": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1e3 for p in (50, 95, 99)}


class Countdown:
    """Calls *ended* when it was counted down *jobs* times. Any number of threads may count."""

    def __init__(self, jobs: int, ended: Callable[[], object]) -> None:
        self._left = iter(count(jobs - 1, -1))
        self._ended = ended

    def count(self) -> None:
        """Take note that one job was done."""
        if next(self._left) == 0:
            self._ended()
