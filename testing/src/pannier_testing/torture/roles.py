"""The processes of a run: workers, and one that queues. Run in forks, which may be killed at any moment."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Thread
from typing import Final
from uuid import UUID

from attrs import evolve, frozen

from pannier.environment import Environment
from pannier.errors import StorageError
from pannier.queues import JobQueues
from pannier.records import JobRecord
from pannier.worker.options import WorkerOptions
from pannier_testing.subject import import_plugin, load_plugins
from pannier_testing.torture.ground import Board, Journal
from pannier_testing.torture.jobs import KINDS, OPTIONS, handlers_on, new_command
from pannier_testing.torture.witness import WitnessPlugin, witnessed

PAUSE: Final = 0.01
"""Seconds between two looks at the board."""

LOOK_SECONDS: Final = 0.5
"""How often a process looks whether the rig is still there."""

OVERRUN: Final = 75
"""What a worker exits with whose handler is about to outlive its lease (E6)."""


@frozen
class SeatClock:
    """The wall clock of a seat, which may be wrong."""

    board: Board
    seat: int

    def now(self) -> datetime:
        """Return what the clock shows."""
        return datetime.now(UTC) + timedelta(seconds=self.board.offset(self.seat))


async def work(url: str, *, folder: str, seat: int, adapters: list[str], lease: float, prelude: str) -> None:
    """Execute jobs until SIGTERM."""
    if prelude:
        import_plugin(prelude)()  # type: ignore[operator]  # a function
    journal = Journal(Path(folder))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    end_with_the_rig()
    jobs = _queues(url, Path(folder), seat, adapters, journal)
    lease_for = timedelta(seconds=lease)
    options = WorkerOptions(lease_for=lease_for, renew_every=lease_for / 3, purge_every=None)

    def leave_at_once() -> None:
        journal.note("overrun")
        os._exit(OVERRUN)

    async with jobs.worker(options, overrun=leave_at_once) as worker:
        journal.note("begun", role="worker", seat=seat)
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(worker.wait_until_failed())]
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for waiting in waits:
            waiting.cancel()
        await asyncio.wait(waits)
        for ended in done:
            ended.result()


async def queue(
    url: str, *, folder: str, seat: int, adapters: list[str], seed: int, done: int, again: list[list[object]]
) -> None:
    """
    Queue jobs, as many as the board allows, until SIGTERM.

    Args:
        url: The storage.
        folder: Where journal and board are.
        seat: Whose clock.
        adapters: Plugins that are not installed.
        seed: Decides which jobs.
        done: How many were queued before.
        again: Jobs with keys whose acknowledgement did not arrive before the predecessor was killed: kind, number and
            key of each.
    """
    journal, board, rng = Journal(Path(folder)), Board(Path(folder)), Random(seed)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    end_with_the_rig()
    jobs = _queues(url, Path(folder), seat, adapters, journal)
    async with jobs:
        journal.note("begun", role="queue", seat=seat)
        for kind, number, key in again:
            command = KINDS[str(kind)](int(str(number)), 0.0)
            await _store(jobs, stop, [jobs.create_job(command, idempotency_key=str(key))])
        while not stop.is_set():
            room = board.allowed - done
            if room <= 0:
                await asyncio.sleep(PAUSE)
                continue
            batch = [_new_job(jobs, rng) for _ in range(min(room, rng.randrange(1, 20)))]
            await _store(jobs, stop, batch)
            done += len(batch)
            await _bother(jobs, rng, stop, batch)


def end_with_the_rig() -> None:
    """Let this process end when the one that forked it does: nobody else would ever end it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    Thread(target=watch, name="rig watch", daemon=True).start()


def _new_job(jobs: JobQueues, rng: Random) -> JobRecord:
    number = rng.getrandbits(40)
    due = jobs.session.clock.now() + timedelta(seconds=rng.choice((0, 0, 0, rng.random())))
    key = f"key {number}" if rng.random() < 0.5 else None
    return jobs.create_job(
        new_command(rng, number), execute_after=due, priority=rng.choice((0, 0, 0, 7, -7)), idempotency_key=key
    )


async def _bother(jobs: JobQueues, rng: Random, stop: asyncio.Event, batch: list[JobRecord]) -> None:
    """Now and then cancel a job, and store one a second time, under another tracking id but the same key."""
    chosen = rng.choice(batch)
    if chosen.idempotency_key is not None and rng.random() < 0.3:
        await _store(jobs, stop, [evolve(chosen, tracking_id=UUID(int=rng.getrandbits(128), version=4))])
    if rng.random() < 0.2:
        unwanted = rng.choice(batch).tracking_id
        await _repeated(stop, lambda: jobs.cancel_job(unwanted))


async def _store(jobs: JobQueues, stop: asyncio.Event, batch: list[JobRecord]) -> None:
    """Store *batch*, again and again where the storage fails: it is known by its tracking ids (R7)."""
    await _repeated(stop, lambda: jobs.queue_jobs(batch))


async def _repeated(stop: asyncio.Event, call: Callable[[], Awaitable[object]]) -> None:
    while not stop.is_set():
        try:
            await call()
        except (StorageError, MemoryError):
            await asyncio.sleep(5 * PAUSE)
        else:
            return


def _queues(url: str, folder: Path, seat: int, adapters: list[str], journal: Journal) -> JobQueues:
    witness = WitnessPlugin(journal, load_plugins(tuple(adapters)))
    return JobQueues(
        witnessed(url),
        handlers=handlers_on(journal),
        defaults=OPTIONS,
        plugins=[witness],
        environment=Environment(wall=SeatClock(Board(folder), seat)),
    )
