"""How a drain gains from more worker processes. All of them wait already when the jobs fall due."""

import asyncio
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

from benchmarks.contestants.ours import Convert, check_all_succeeded, commands, url
from benchmarks.task import ROOT, Answer, Task
from pannier import HandlerRegistry, JobQueues
from pannier.inspection import JobFilter
from pannier.records import JobStatus

if TYPE_CHECKING:
    from pannier.storage import JobInspector

HEAD_START: Final = timedelta(seconds=6)
POLL_SECONDS: Final = 0.25
UNFINISHED: Final = frozenset({JobStatus.PENDING, JobStatus.RUNNING})


def processes(task: Task) -> Answer:
    """Do the jobs by `task.workers` processes."""
    return asyncio.run(_processes(task))


async def _processes(task: Task) -> Answer:
    handlers = HandlerRegistry()
    handlers.declare(Convert)
    async with JobQueues(url(task), handlers=handlers) as jobs:
        begins = datetime.now(UTC) + HEAD_START + timedelta(seconds=task.workers)
        for first in range(0, task.jobs, 1000):
            await jobs.queue_jobs(commands(range(first, min(first + 1000, task.jobs))), execute_after=begins)
        with ExitStack() as stack:
            workers = [stack.enter_context(_start_worker(task)) for _ in range(task.workers)]
            inspector = cast("JobInspector", jobs.storage)
            while await inspector.count_jobs(JobFilter(statuses=UNFINISHED)):  # noqa: ASYNC110  # others finish them
                await asyncio.sleep(POLL_SECONDS)
            ended = max(float(worker.communicate()[0]) for worker in workers)
    await check_all_succeeded(task)
    return {"jobs/s": task.jobs / (ended - begins.timestamp())}


def _start_worker(task: Task) -> "subprocess.Popen[str]":
    command = (sys.executable, "-m", "benchmarks.contestants.ours_processes", url(task), str(task.concurrency))
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _work(storage: str, concurrency: int) -> None:
    """Work until the input is closed, and print when the last job ran."""
    handlers = HandlerRegistry()
    ended = 0.0

    @handlers.handler(max_concurrency=concurrency)
    async def convert(command: Convert) -> int:
        nonlocal ended
        ended = time.time()
        return command.number

    async with JobQueues(storage, handlers=handlers) as jobs, jobs.worker():
        await asyncio.to_thread(sys.stdin.read)
    print(ended)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], int(sys.argv[2])))
