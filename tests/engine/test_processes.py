"""The worker as a process, on SQLite: signals, kills, blocked loops, a storage that is gone (E5, E6, E7, E14)."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
from attrs import frozen

from pannier import Command, JobQueues, JobRecord, JobStatus
from pannier.inspection import JobFilter
from tests.engine import program

T = TypeVar("T")

LEASE_SECONDS = 1.0
DEADLINE_SECONDS = 60


@frozen
class Line:
    """A line of the journal."""

    what: str
    pid: int
    at: float


class Stage:
    """A database, a journal, and the worker processes that were started on them."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "jobs.db"
        self.url = f"sqlite:///{self.database}?synchronous=normal&timeout=0.3"
        self._journal = folder / "journal"
        self._workers: list[subprocess.Popen[bytes]] = []

    @property
    def journal(self) -> str:
        """The journal's path, for commands."""
        return str(self._journal)

    def lines(self, what: str = "") -> list[Line]:
        """Return what was written to the journal, or those lines that begin with *what*."""
        text = self._journal.read_text() if self._journal.exists() else ""
        found = [line.split() for line in text.splitlines()]
        return [Line(word, int(pid), float(at)) for word, pid, at in found if word.startswith(what)]

    def start_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `pannier worker` with short leases."""
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "pannier.cli", "worker", "tests.engine.program:jobs"),
                *("--lease", f"{LEASE_SECONDS}s", "--grace", "0s", *arguments),
            ],
            env={**os.environ, "PANNIER_TEST_STORAGE": self.url},
            cwd=Path(__file__).parents[2],
        )
        self._workers.append(worker)
        return worker

    def start_ready_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it works."""
        health = self.database.with_name(f"health.{len(self._workers)}")
        worker = self.start_worker(f"--health-file={health}", *arguments)
        wait_until(health.exists)
        return worker

    def end(self) -> None:
        """End every worker that still runs."""
        for worker in self._workers:
            worker.kill()
            worker.wait()

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
        return asyncio.run(self._with_jobs(all_jobs))

    async def _with_jobs(self, use: Callable[[JobQueues], Awaitable[T]]) -> T:
        jobs = JobQueues(self.url, handlers=program.jobs.registry)
        async with jobs:
            return await use(jobs)


async def all_jobs(jobs: JobQueues) -> list[JobRecord]:
    """Return all jobs of the storage."""
    assert jobs.session.inspector is not None
    return list((await jobs.session.inspector.find_jobs(JobFilter(), limit=10_000)).jobs)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage of its own for each test."""
    stage = Stage(tmp_path)
    yield stage
    stage.end()


@contextmanager
def held(database: Path) -> Iterator[sqlite3.Connection]:
    """Hold the database's write lock: whoever wants to renew a lease gets no answer that helps."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=DEADLINE_SECONDS)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def lease_end(connection: sqlite3.Connection) -> float:
    """Return when the only job's lease ends, in seconds since 1970."""
    [[microseconds]] = connection.execute("SELECT dequeue_after FROM pannier_jobs")
    return float(microseconds) / 1_000_000


async def delays(stage: Stage, count: int) -> list[float]:
    """Queue jobs one by one; return how long it took until each of them started."""
    found = []
    jobs = JobQueues(stage.url, handlers=program.jobs.registry)
    async with jobs:
        for number in range(count):
            await asyncio.sleep(0.1)
            queued_at = time.time()
            await jobs.queue_job(program.Sleep(0, stage.journal))
            while len(stage.lines("start")) < number + 2:  # noqa: ASYNC110  # a file tells nobody
                await asyncio.sleep(0.002)
            found.append(stage.lines("start")[-1].at - queued_at)
    return found


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until *condition* gives something true; fail after a minute."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_terminated_worker_gives_its_jobs_back(stage: Stage) -> None:
    """E5: on SIGTERM a running handler is cancelled and its job released, no attempt burnt; the worker exits with 0."""
    [tracking_id] = stage.queue(program.Sleep(60, stage.journal))
    worker = stage.start_worker()
    wait_until(lambda: stage.lines("start"))

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(DEADLINE_SECONDS) == 0
    assert stage.lines("stopped:shutdown")
    job = stage.job(tracking_id)
    assert (job.status, job.attempt, job.lapses) == (JobStatus.PENDING, 0, 0)


def test_a_handler_that_blocks_the_loop_is_not_run_twice(stage: Stage) -> None:
    """E6: leases are renewed from a thread, so that three lease times without a loop lose nothing."""
    [tracking_id] = stage.queue(program.Block(3 * LEASE_SECONDS, stage.journal))
    stage.start_worker()
    wait_until(lambda: stage.lines("start"))
    stage.start_worker("--probe", "100ms")

    wait_until(lambda: stage.job(tracking_id).is_complete)

    assert [line.what for line in stage.lines()] == ["start", "end"]
    assert stage.job(tracking_id).fence == 1


def test_a_worker_that_lost_its_storage_stops_its_handlers_before_their_leases_lapse(stage: Stage) -> None:
    """E6: an async handler is cancelled in time, and the process lives on."""
    [tracking_id] = stage.queue(program.Sleep(60, stage.journal))
    worker = stage.start_worker()
    wait_until(lambda: stage.lines("start"))

    with held(stage.database) as connection:
        wait_until(lambda: stage.lines("stopped"))
        lease_ends_at = lease_end(connection)
        assert worker.poll() is None

    [stopped] = stage.lines("stopped")
    assert stopped.what == "stopped:lease_ending"
    assert stopped.at < lease_ends_at
    assert stage.job(tracking_id).fence >= 1


@pytest.mark.parametrize("command", [program.Stubborn, program.Block])
def test_a_worker_whose_handler_cannot_be_stopped_ends_its_process_before_the_lease_does(
    stage: Stage, command: type[program.Stubborn | program.Block]
) -> None:
    """E6: with 75, whether the handler sits in a thread or blocks the loop."""
    stage.queue(command(60, stage.journal))
    worker = stage.start_worker()
    wait_until(lambda: stage.lines("start"))

    with held(stage.database) as connection:
        code = worker.wait(DEADLINE_SECONDS)
        ended_at = time.time()
        lease_ends_at = lease_end(connection)

    assert code == 75
    assert ended_at < lease_ends_at


def test_a_job_queued_by_another_process_starts_within_50_ms(stage: Stage) -> None:
    """E7: the best of ten on a machine that may be busy; the probe is a minute away."""
    stage.start_worker("--probe", "60s")
    stage.queue(program.Sleep(0, stage.journal))
    wait_until(lambda: stage.lines("start"))

    found = asyncio.run(delays(stage, 10))

    assert min(found) < 0.05
    assert max(found) < 5


def test_a_killed_workers_jobs_start_again_within_a_lease_and_a_second(stage: Stage) -> None:
    """A worker killed with -9 delays its jobs by its leases, no longer, and loses none."""
    [tracking_id] = stage.queue(program.Sleep(30, stage.journal))
    first = stage.start_ready_worker()
    wait_until(lambda: stage.lines("start"))
    stage.start_ready_worker("--probe", "60s")

    first.kill()
    killed_at = time.time()
    wait_until(lambda: len(stage.lines("start")) == 2)

    again = stage.lines("start")[1]
    assert again.pid != first.pid
    assert again.at - killed_at < LEASE_SECONDS + 1
    job = stage.job(tracking_id)
    assert (job.status, job.attempt, job.lapses, job.errors) == (JobStatus.RUNNING, 2, 1, ())


def test_a_job_that_kills_its_worker_is_condemned_and_no_other(stage: Stage) -> None:
    """E14: after three dead workers it is FAILED without a fourth; jobs that ran beside it succeed."""
    innocents = stage.queue(*(program.Innocent(stage.journal) for _ in range(12)))
    [killer] = stage.queue(program.Kill(stage.journal))

    stage.start_worker("--processes", "2", "--probe", "100ms")
    wait_until(lambda: stage.job(killer).is_complete)
    wait_until(lambda: all(stage.job(tracking_id).is_complete for tracking_id in innocents))

    assert len(stage.lines("kill")) == 3
    assert stage.job(killer).status is JobStatus.FAILED
    assert "died three times in a row" in stage.job(killer).errors[-1].message
    assert {stage.job(tracking_id).status for tracking_id in innocents} == {JobStatus.SUCCEEDED}


def queue_notes(stage: Stage, count: int) -> None:
    """Queue *count* jobs that write themselves down, 80 a second in one worker."""
    stage.queue(*(program.Note(number, 0.05, stage.journal) for number in range(count)))


def test_two_workers_run_each_job_of_a_backlog_once(stage: Stage) -> None:
    """They share the backlog out; no job is run or settled twice."""
    workers = [stage.start_ready_worker(), stage.start_ready_worker()]

    queue_notes(stage, 200)
    wait_until(lambda: all(job.is_complete for job in stage.jobs()))

    runs = stage.lines("note:")
    assert sorted(line.what for line in runs) == sorted(f"note:{number}" for number in range(200))
    assert {line.pid for line in runs} == {worker.pid for worker in workers}
    assert {(job.status, job.attempt) for job in stage.jobs()} == {(JobStatus.SUCCEEDED, 1)}


def test_a_killed_worker_of_two_loses_no_job_and_its_own_go_first(stage: Stage) -> None:
    """All jobs succeed; only what the dead one had leased is tried a second time, ahead of the waiting backlog."""
    killed, survivor = stage.start_ready_worker(), stage.start_ready_worker()
    queue_notes(stage, 400)
    wait_until(lambda: {line.pid for line in stage.lines("note:")} == {killed.pid, survivor.pid})

    killed.kill()
    wait_until(lambda: all(job.is_complete for job in stage.jobs()))

    runs, jobs = stage.lines("note:"), stage.jobs()
    assert len(jobs) == 400
    assert {job.status for job in jobs} == {JobStatus.SUCCEEDED}
    assert max(job.attempt for job in jobs) == 2
    assert sum(job.attempt == 2 for job in jobs) <= 20  # its four slots, and what is claimed ahead of them
    again = [line for index, line in enumerate(runs) if line.what in {earlier.what for earlier in runs[:index]}]
    assert {line.pid for line in again} == {survivor.pid}
    assert sum(line.at > again[-1].at for line in runs) > 20
