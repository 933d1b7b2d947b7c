"""`pannier worker` in a process of its own."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest

from pannier import JobRecord, JobStatus
from pannier.cli.durations import parse_duration as parse
from pannier.cli.exits import ExitCode
from pannier.cli.logs import LogFormat, LogLevel
from pannier.cli.settings import WorkerSettings, parse_retention
from pannier.cli.stopping import STOP_SIGNALS

from .conftest import Ended, Running

Run = Callable[..., Ended]
Start = Callable[..., Running]
Queue = Callable[..., list[UUID]]
Stored = Callable[[UUID], JobRecord | None]
Wait = Callable[[UUID, JobStatus], None]

pytestmark = pytest.mark.usefixtures("shop")
STARTED = "works on"


def test_it_executes_what_is_queued(shop: ModuleType, queue: Queue, start: Start, wait_until: Wait) -> None:
    """A worker process executes a job that another process has queued."""
    [tracking_id] = queue(shop.Greet("Ada"))

    start("worker", "shop:jobs")

    wait_until(tracking_id, JobStatus.SUCCEEDED)


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_signal_stops_it_in_order_and_burns_no_attempt(
    shop: ModuleType, queue: Queue, start: Start, stored: Stored, wait_until: Wait, number: signal.Signals
) -> None:
    """After the grace period the running job waits again in its old place, the attempt not counted; exit code 0."""
    [tracking_id] = queue(shop.Sit())
    worker = start("worker", "shop:jobs", "--grace=0.1s")
    wait_until(tracking_id, JobStatus.RUNNING)

    worker.process.send_signal(number)

    assert worker.end() == 0
    job = stored(tracking_id)
    assert job is not None
    assert (job.status, job.attempt, job.dequeue_after) == (JobStatus.PENDING, 0, job.execute_after)


def test_a_second_signal_ends_it_at_once(shop: ModuleType, queue: Queue, start: Start, wait_until: Wait) -> None:
    """Whoever insists does not wait for the grace period."""
    [tracking_id] = queue(shop.Sit())
    worker = start("worker", "shop:jobs", "--grace=1h")
    wait_until(tracking_id, JobStatus.RUNNING)

    worker.process.send_signal(signal.SIGINT)
    worker.wait_for("stopping")
    worker.process.send_signal(signal.SIGINT)

    assert worker.end() == -signal.SIGINT


def test_a_second_signal_ends_it_even_while_its_loop_is_blocked(
    shop: ModuleType, queue: Queue, start: Start, wait_until: Wait
) -> None:
    """A handler that blocks the event loop can't keep the process alive."""
    [tracking_id] = queue(shop.Hog(3600))
    worker = start("worker", "shop:jobs")
    wait_until(tracking_id, JobStatus.RUNNING)

    worker.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)  # two signals of one kind that come at once are one; nothing tells when the first was taken
    worker.process.send_signal(signal.SIGTERM)

    assert worker.end() == -signal.SIGTERM


def test_it_stops_when_its_input_ends_where_asked_to(start: Start) -> None:
    """With --stop-at-eof a worker does not outlive whoever started it."""
    worker = start("worker", "shop:jobs", "--stop-at-eof")
    worker.wait_for(STARTED)

    assert worker.process.stdin is not None
    worker.process.stdin.close()

    assert worker.end() == 0


def test_it_works_only_on_the_queues_it_is_given(
    shop: ModuleType, queue: Queue, start: Start, stored: Stored, wait_until: Wait
) -> None:
    """--queues takes names, apart by commas; jobs of other queues stay."""
    [left, done] = queue(shop.Refuse("never asked"), shop.Greet("Ada"))
    worker = start("worker", "shop:jobs", "--queues=Sit,Greet")
    wait_until(done, JobStatus.SUCCEEDED)

    worker.process.terminate()
    worker.end()

    job = stored(left)
    assert job is not None
    assert job.attempt == 0


def test_an_unknown_queue_is_a_configuration_error(pannier: Run) -> None:
    """A misspelled queue would never be worked on, so it is refused with the names that there are."""
    ended = pannier("worker", "shop:jobs", "--queues=Gret")

    assert ended.code == ExitCode.CONFIGURATION
    assert "no handler for the queue 'Gret' (queues: Greet, Hog, Refuse, Sit)" in ended.err


def test_the_health_file_lives_as_long_as_the_worker(start: Start, tmp_path: Path) -> None:
    """It is there once the worker works, young, and gone after its end."""
    health = tmp_path / "health"
    worker = start("worker", "shop:jobs", f"--health-file={health}")
    worker.wait_for(STARTED)
    _wait_for(health.exists)
    age = time.time() - health.stat().st_mtime

    worker.process.terminate()
    worker.end()

    assert age < 10
    assert not health.exists()


def test_a_health_file_of_an_earlier_worker_does_not_count(start: Start, tmp_path: Path) -> None:
    """What a killed worker has left behind is removed before the next one starts to work."""
    health = tmp_path / "health"
    health.touch()
    os.utime(health, (0, 0))
    worker = start("worker", "shop:jobs", f"--health-file={health}")
    worker.wait_for(STARTED)

    _wait_for(health.exists)

    assert health.stat().st_mtime > 0


def test_a_health_file_that_can_not_be_written_is_a_configuration_error(pannier: Run, tmp_path: Path) -> None:
    """Nobody waits for a sign of life that can't come."""
    ended = pannier("worker", "shop:jobs", f"--health-file={tmp_path}/missing/health")

    assert ended.code == ExitCode.CONFIGURATION
    assert "the health file" in ended.err


def test_a_handler_that_outlives_its_lease_ends_the_process(
    shop: ModuleType, queue: Queue, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    """If a lease can't be renewed and its handler can't be stopped, the process ends itself with 75 (E6)."""
    [tracking_id] = queue(shop.Hog(3600))
    worker = start("worker", "shop:jobs", "--lease=3s")
    wait_until(tracking_id, JobStatus.RUNNING)

    holding = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    try:
        holding.execute("BEGIN IMMEDIATE")  # so no lease can be renewed
        code = worker.end()
    finally:
        holding.close()

    assert code == ExitCode.OVERRUN


def test_a_log_line_in_json_carries_the_job(shop: ModuleType, queue: Queue, start: Start) -> None:
    """With --log-format=json a line is an object with message, tracking id, queue and attempt."""
    [tracking_id] = queue(shop.Refuse("no"))
    worker = start("worker", "shop:jobs", "--log-format=json")

    line = json.loads(worker.wait_for("failed for good"))

    assert (line["tracking_id"], line["queue_id"], line["attempt"]) == (str(tracking_id), "Refuse", 1)
    assert line["level"] == "error"


def test_the_log_level_is_heeded(shop: ModuleType, queue: Queue, start: Start, wait_until: Wait) -> None:
    """At --log-level=error a worker that is well says nothing."""
    [tracking_id] = queue(shop.Greet("Ada"))
    worker = start("worker", "shop:jobs", "--log-level=error")
    wait_until(tracking_id, JobStatus.SUCCEEDED)

    worker.process.terminate()

    assert worker.errors.read() == ""


def test_its_options_reach_the_processes_that_it_starts() -> None:
    """What a worker's settings say is the same after a trip over another command line."""
    settings = WorkerSettings(
        target="shop:jobs",
        queues=("Greet", "Sit"),
        max_running=3,
        grace=parse("1.5s"),
        lease=parse("1m"),
        probe=parse("250ms"),
        keep=parse_retention(["failed=forever", "succeeded=1h"]),
        log_level=LogLevel.WARNING,
        log_format=LogFormat.JSON,
    )

    options = settings.options()

    assert settings.arguments() == [
        "--queues=Greet",
        "--queues=Sit",
        "--max-running=3",
        "--grace=1.500000s",
        "--lease=60.000000s",
        "--probe=0.250000s",
        "--keep=failed=forever",
        "--keep=succeeded=3600.000000s",
        "--log-level=warning",
        "--log-format=json",
        "--",
        "shop:jobs",
    ]
    assert options.lease_for == options.renew_every * 3
    assert JobStatus.FAILED not in options.keep
    assert options.keep[JobStatus.SUCCEEDED] == parse("1h")
    assert JobStatus.EXPIRED in options.keep


def _wait_for(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds; the test's own time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.01)
