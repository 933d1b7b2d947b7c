"""The demo: queue the plan, watch a worker in another process execute it, and let a third say what became of it."""

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pannier import Cancellation, ConfigurationError, JobProgress, JobQueues
from pannier.cli.demo.board import Board
from pannier.cli.demo.plan import CANCEL_AT_PAGE, Planned, make_plan
from pannier.cli.demo.processes import DemoError, read_back, worker_process
from pannier.cli.demo.verdict import Found, fates, faults_of
from pannier.cli.demo.work import Crawl, handlers

PATIENCE_SECONDS: Final = 60.0
"""When the demo gives up. It takes a tenth of that on an idle machine."""

Queued = Sequence[tuple[UUID, Planned]]


async def run_demo(url: str, *, seed: int, log: Path, console: Console) -> None:
    """
    Run the demo on the storage that *url* names; the worker logs to the file *log*.

    Raises:
        DemoError: Something is not as it should be.
        ConfigurationError: The storage can't be shared with other processes.
        PannierError: The storage can't be used.
    """
    began = time.monotonic()
    jobs = JobQueues(url, handlers=handlers)
    run = uuid4().hex[:8]
    console.print(_title(jobs, seed))
    async with jobs:
        _check_shared(jobs)
        queued = await queue_plan(jobs, make_plan(seed), run)
        async with worker_process(url, log) as worker:
            console.print(_heading(queued, worker))
            await _watch(jobs, queued, worker, console)
    if worker.returncode != 0:
        raise DemoError(f"the worker ended with {worker.returncode} instead of 0{_tail(log)}")
    found = await read_back(url, run)
    console.print(Text("What became of each, as yet another process finds it in the storage:"), fates(queued, found))
    _judge(queued, found)
    console.print(Text(f"{len(queued)} jobs, each as it should be, in {time.monotonic() - began:.1f} s.", "bold green"))


def _check_shared(jobs: JobQueues) -> None:
    if not jobs.storage.capabilities.shared:
        raise ConfigurationError(
            f"the demo's worker is another process, and other processes can't share {jobs.storage_name}; leave "
            f"--storage out, or name a storage that can, such as sqlite:///demo.db"
        )


async def queue_plan(jobs: JobQueues, plan: Sequence[Planned], run: str) -> Queued:
    """
    Queue the jobs of *plan*, marked as those of *run*; the first one twice.

    Raises:
        DemoError: A job with a key that is known already got an id of its own.
    """
    now = datetime.now(UTC)
    records = [
        jobs.create_job(
            planned.command,
            execute_after=now + planned.delay,
            expire_on=now + timedelta(minutes=10),
            priority=planned.priority,
            idempotency_key=f"{run} {planned.label}",
            metadata={"demo": run},
        )
        for planned in plan
    ]
    ids = await jobs.queue_jobs(records)
    again = await jobs.queue_job(plan[0].command, idempotency_key=f"{run} {plan[0].label}")
    if again != ids[0]:
        raise DemoError(f"{plan[0].label} was queued twice with one key, and became two jobs")
    return list(zip(ids, plan, strict=True))


async def _watch(jobs: JobQueues, queued: Queued, worker: Process, console: Console) -> None:
    """
    Show what the jobs do until all have ended.

    Raises:
        DemoError: The worker ended before, or it takes far too long.
    """
    board = Board(queued)
    following = asyncio.create_task(_follow_all(jobs, board, queued))
    ending = asyncio.create_task(_end_of(worker))
    both = {following, ending}
    try:
        with Live(board, console=console, refresh_per_second=12):
            done, _ = await asyncio.wait(both, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        following.cancel()
        ending.cancel()
        await asyncio.wait(both)
    if not done:
        raise DemoError(f"not all jobs have ended within {PATIENCE_SECONDS:g} s")
    for task in done:
        task.result()


async def _end_of(worker: Process) -> None:
    code = await worker.wait()
    raise DemoError(f"the worker process {worker.pid} ended ({code}) before its jobs were done")


async def _follow_all(jobs: JobQueues, board: Board, queued: Queued) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for tracking_id, planned in queued:
                group.create_task(_follow(jobs, board, tracking_id, planned))
    except BaseExceptionGroup as failed:  # one of them is enough to tell
        raise failed.exceptions[0] from failed


async def _follow(jobs: JobQueues, board: Board, tracking_id: UUID, planned: Planned) -> None:
    """Show one job on the *board* until it has ended; cancel it if it is a crawl that has got far enough."""
    tracker = jobs.tracker(planned.kind)
    is_cancelled = False
    async for progress in tracker.follow(tracking_id):
        board.update(tracking_id, progress)
        if planned.kind is Crawl and _is_far_enough(progress) and not is_cancelled:
            is_cancelled = True
            if await tracker.cancel_job(tracking_id) is not Cancellation.CANCELLED:
                raise DemoError(f"{planned.label} ran, and could not be cancelled")


def _is_far_enough(progress: JobProgress) -> bool:
    return progress.current_step >= CANCEL_AT_PAGE


def _judge(queued: Queued, found: Mapping[UUID, Found]) -> None:
    faults = [
        f"{planned.kind.__name__} {planned.label}: {fault}"
        for tracking_id, planned in queued
        for fault in faults_of(planned, found.get(tracking_id))
    ]
    if len(found) != len(queued):
        faults.append(f"{len(queued)} jobs were queued, and {len(found)} are there")
    if faults:
        raise DemoError("; ".join(faults))


def _title(jobs: JobQueues, seed: int) -> Text:
    return Text.assemble(("pannier demo", "bold"), ("  on ", "dim"), jobs.storage_name, ("  --seed ", "dim"), str(seed))


def _heading(queued: Queued, worker: Process) -> Text:
    return Text.assemble(
        (str(len(queued)), "bold"),
        " jobs queued, one of them twice with the same key",
        ("  worker process ", "dim"),
        str(worker.pid),
        "\n",
    )


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-3:]
    return f": {' | '.join(lines)}" if lines else ""
