"""How soon a job starts after it was queued, on a worker that has nothing to do: in this process, or in another one."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Final

from benchmarks.contestants.ours import Convert, commands, url
from benchmarks.task import ROOT, Answer, Task, percentiles
from pannier import HandlerRegistry, JobQueues

PAUSE_SECONDS: Final = 0.1
"""How long to wait between two jobs, give or take half: the worker is to be idle, and no poll in step with us."""

PATIENCE: Final = timedelta(seconds=30)


def latency(task: Task) -> Answer:
    """Queue jobs one at a time in the worker's own process."""
    return asyncio.run(_latency(task))


async def _latency(task: Task) -> Answer:
    handlers = HandlerRegistry()
    started: asyncio.Queue[float] = asyncio.Queue()

    @handlers.handler()
    async def convert(_: Convert) -> int:
        started.put_nowait(time.perf_counter())
        return 0

    waits: list[float] = []
    async with JobQueues(url(task), handlers=handlers) as jobs, jobs.worker():
        for command in commands(range(task.jobs)):
            await _pause(command.number)
            asked = time.perf_counter()
            await jobs.queue_job(command)
            waits.append(await started.get() - asked)
    return percentiles(waits)


def latency_apart(task: Task) -> Answer:
    """Queue jobs one at a time while a worker in another process waits."""
    return asyncio.run(_latency_apart(task))


async def _latency_apart(task: Task) -> Answer:
    handlers = HandlerRegistry()
    handlers.declare(Convert)
    waits: list[float] = []
    async with JobQueues(url(task), handlers=handlers) as jobs, _worker_elsewhere(url(task)):
        tracker = jobs.tracker(Convert)
        for command in commands(range(-1, task.jobs)):  # the first one waits for the worker
            await _pause(command.number)
            asked = time.monotonic_ns()
            tracking_id = await jobs.queue_job(command)
            started = await tracker.wait_for_result(tracking_id, timeout=PATIENCE)
            if command.number >= 0:
                waits.append((started - asked) / 1e9)
    return percentiles(waits)


async def _pause(number: int) -> None:
    await asyncio.sleep(PAUSE_SECONDS * (0.5 + Random(number).random()))


@asynccontextmanager
async def _worker_elsewhere(storage: str) -> AsyncIterator[None]:
    with _start_worker(storage) as process:
        yield
        process.communicate()  # which closes its input


def _start_worker(storage: str) -> "subprocess.Popen[bytes]":
    command = (sys.executable, "-m", "benchmarks.contestants.ours_latency", storage)
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)


async def _work(storage: str) -> None:
    """Work until the input is closed. A job's result is when it started, by the clock that all processes share."""
    handlers = HandlerRegistry()

    @handlers.handler()
    async def convert(_: Convert) -> int:
        return time.monotonic_ns()

    async with JobQueues(storage, handlers=handlers) as jobs, jobs.worker():
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
