"""Worker processes on one storage, what is stored there, and the journal of what their handlers did."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from attrs import frozen

from pannier import Command, JobQueues, JobRecord, JobStatus
from pannier.inspection import JobFilter
from tests.engine import program

T = TypeVar("T")

DEADLINE_SECONDS: Final = 90

ROOT: Final = Path(__file__).parents[2]


@frozen
class Line:
    """A line of the journal."""

    what: str
    pid: int
    at: float


class Crew:
    """
    Processes that run `pannier worker` on the program of the tests.

    Attributes:
        url: The storage's.
        journal: The journal's path, for commands.
    """

    def __init__(self, url: str, folder: Path, *options: str) -> None:
        self.url = url
        self.journal = str(folder / "journal")
        self._folder = folder
        self._options = options or ("--lease", "2s")
        self._workers: list[subprocess.Popen[bytes]] = []

    # -- workers -------------------------------------------------------------------------------------------------------

    def hire(self, *more: str) -> "subprocess.Popen[bytes]":
        """Start one more worker, with *more* options than the others."""
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "pannier.cli", "worker", "tests.engine.program:jobs"),
                *(*self._options, *more),
            ],
            env={**os.environ, "PANNIER_TEST_STORAGE": self.url},
            cwd=ROOT,
        )
        self._workers.append(worker)
        return worker

    def hire_ready(self, *more: str) -> "subprocess.Popen[bytes]":
        """Start one more worker, and wait until it works."""
        health = self._folder / f"health.{len(self._workers)}"
        worker = self.hire(f"--health-file={health}", *more)
        wait_until(health.exists)
        return worker

    def end(self) -> None:
        """End every one that still runs."""
        for worker in self._workers:
            worker.kill()
            worker.wait()

    # -- the journal ---------------------------------------------------------------------------------------------------

    def lines(self, what: str = "") -> list[Line]:
        """Return the lines of the journal that begin with *what*."""
        path = Path(self.journal)
        found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [Line(word, int(pid), float(at)) for word, pid, at in found if word.startswith(what)]

    def count(self, what: str) -> int:
        """Return how often *what* stands in the journal."""
        return len(self.lines(what))

    def wait_for(self, what: str, count: int = 1) -> None:
        """Wait until *what* stands in the journal *count* times."""
        wait_until(lambda: self.count(what) >= count)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def queue(self, *commands: Command[object]) -> list[UUID]:
        """Queue *commands*."""
        return asyncio.run(self._with_jobs(lambda jobs: jobs.queue_jobs(commands)))

    def job(self, tracking_id: UUID) -> JobRecord:
        """Return the stored job."""
        job = asyncio.run(self._with_jobs(lambda jobs: jobs.storage.get_job(tracking_id)))
        assert job is not None
        return job

    def jobs(self) -> list[JobRecord]:
        """Return all stored jobs."""
        return asyncio.run(self._with_jobs(_all_jobs))

    def ended(self, tracking_ids: Sequence[UUID]) -> Counter[JobStatus]:
        """Wait until all those jobs are complete, and count how they ended."""

        async def end(jobs: JobQueues) -> Counter[JobStatus]:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    found = [await jobs.storage.get_job(tracking_id) for tracking_id in tracking_ids]
                    if all(job is not None and job.is_complete for job in found):
                        return Counter(job.status for job in found if job is not None)
                    await asyncio.sleep(0.1)

        return asyncio.run(self._with_jobs(end))

    async def _with_jobs(self, use: Callable[[JobQueues], Awaitable[T]]) -> T:
        async with JobQueues(self.url, handlers=program.jobs.registry) as jobs:
            return await use(jobs)


def processor_seconds(pid: int) -> float:
    """Return how long a process has been on a processor so far, in all of its threads."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until *condition* gives something true."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


async def _all_jobs(jobs: JobQueues) -> list[JobRecord]:
    assert jobs.session.inspector is not None
    return list((await jobs.session.inspector.find_jobs(JobFilter(), limit=10_000)).jobs)
