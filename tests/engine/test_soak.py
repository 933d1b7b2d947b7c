"""
A long run of a worker: descriptors, threads, tasks and memory stay as they were after its first fifth.

Small in every run; at full size: `PANNIER_SOAK_JOBS=100000 pytest tests/engine/test_soak.py -s`.
"""

import asyncio
import gc
import logging
import os
import threading
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from pannier import NO_RETRY, Command, JobContext, JobQueues, JobStatus, WorkerOptions
from pannier.inspection import JobFilter

JOBS: Final = int(os.environ.get("PANNIER_SOAK_JOBS", "2000"))
ROUNDS: Final = 10
WARM: Final = 2
"""After so many rounds everything has been done once that is done once."""

BYTES_A_JOB: Final = 60
"""Of a record that is kept there would be some hundred; what the allocator keeps counts once, not each time."""

OPTIONS: Final = WorkerOptions(
    keep={status: timedelta(0) for status in (JobStatus.SUCCEEDED, JobStatus.FAILED)},
    purge_every=timedelta(milliseconds=200),
)


@frozen
class Work(Command[int]):
    """Succeeds, fails or reports, by its number."""

    number: int


@frozen
class Holdings:
    """What the process holds."""

    descriptors: int
    threads: int
    tasks: int
    allocated: int
    resident: int

    @classmethod
    def now(cls) -> "Holdings":
        """Look, after everything was let go that nobody needs."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            len(asyncio.all_tasks()),
            tracemalloc.get_traced_memory()[0],
            pages * os.sysconf("SC_PAGE_SIZE"),
        )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a process is looked at in /proc")
@pytest.mark.timeout(0 if "PANNIER_SOAK_JOBS" in os.environ else 120)
@pytest.mark.parametrize("template", ["memory://", "sqlite:///{tmp}/jobs.db?synchronous=normal"])
def test_a_worker_holds_no_more_after_many_jobs(
    tmp_path: Path, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever becomes of the jobs, each leaves nothing behind in the process once it is purged."""
    caplog.set_level(logging.CRITICAL, "pannier")  # pytest keeps what is logged
    jobs = JobQueues(template.format(tmp=tmp_path))
    ended = 0

    @jobs.handler(retry=NO_RETRY, max_concurrency=20)
    async def work(command: Work, job: JobContext[int]) -> int:
        nonlocal ended
        ended += 1
        if command.number % 10 == 0:
            raise ValueError("each tenth fails")
        if command.number % 10 == 1:
            await job.report(current_step=1, total_steps=2)
        return command.number

    async def settled(count: int) -> None:
        inspector = jobs.session.inspector
        assert inspector is not None
        while ended < count or await inspector.count_jobs(JobFilter()):  # noqa: ASYNC110  # a purge tells nobody
            await asyncio.sleep(0.05)

    async def main() -> list[Holdings]:
        seen: list[Holdings] = []
        size = JOBS // ROUNDS
        async with jobs.worker(OPTIONS):
            for number in range(ROUNDS):
                for start in range(number * size, (number + 1) * size, 500):
                    stop = min(start + 500, (number + 1) * size)
                    await jobs.queue_jobs([Work(each) for each in range(start, stop)])
                await settled((number + 1) * size)
                seen.append(Holdings.now())
                print(f"\n{ended} jobs: {seen[-1]}", end="")  # noqa: T201
        return seen

    tracemalloc.start()
    try:
        seen = asyncio.run(main())
    finally:
        tracemalloc.stop()

    warm, last = seen[WARM - 1], seen[-1]
    assert (last.descriptors, last.threads) == (warm.descriptors, warm.threads)
    assert last.tasks <= warm.tasks
    assert last.allocated - warm.allocated < BYTES_A_JOB * JOBS * (ROUNDS - WARM) / ROUNDS
