"""`pannier worker --processes`: several worker processes, supervised."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest

from pannier import JobRecord, JobStatus
from pannier.cli.exits import ExitCode

from .conftest import Running

Start = Callable[..., Running]
Queue = Callable[..., list[UUID]]
Stored = Callable[[UUID], JobRecord | None]
Wait = Callable[[UUID, JobStatus], None]

pytestmark = pytest.mark.usefixtures("shop")


def pid_of(worker: Running, slot: int) -> int:
    """Wait until the process in *slot* is started, and return its id."""
    match = re.search(r"is (\d+)$", worker.wait_for(f"worker process {slot} is").strip())
    assert match is not None
    return int(match[1])


def test_a_signal_stops_all_of_them(start: Start) -> None:
    """A stop signal reaches every process, and the command ends with 0 once all have ended."""
    workers = start("worker", "shop:jobs", "--processes=2")
    pids = [pid_of(workers, 1), pid_of(workers, 2)]
    workers.wait_for("works on")
    workers.wait_for("works on")

    workers.process.terminate()

    assert workers.end() == 0
    assert not any(map(is_alive, pids))


def test_one_that_dies_is_replaced(shop: ModuleType, queue: Queue, start: Start, wait_until: Wait) -> None:
    """A killed process is followed by another one, which works."""
    workers = start("worker", "shop:jobs", "--processes=2")
    pids = [pid_of(workers, 1), pid_of(workers, 2)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    workers.wait_for("was ended by SIGKILL; another one starts in")
    [tracking_id] = queue(shop.Greet("Ada"))

    wait_until(tracking_id, JobStatus.SUCCEEDED)

    assert workers.process.poll() is None


def test_a_second_signal_ends_all_of_them_at_once(
    shop: ModuleType, queue: Queue, start: Start, wait_until: Wait
) -> None:
    """Whoever insists does not wait for the grace period of any process."""
    [tracking_id] = queue(shop.Sit())
    workers = start("worker", "shop:jobs", "--processes=2", "--grace=1h")
    pids = [pid_of(workers, 1), pid_of(workers, 2)]
    wait_until(tracking_id, JobStatus.RUNNING)

    workers.process.send_signal(signal.SIGINT)
    workers.wait_for("stopping: 1 running")
    workers.process.send_signal(signal.SIGINT)

    assert workers.end() == 128 + signal.SIGINT
    assert not any(map(is_alive, pids))


def test_a_killed_supervisor_takes_its_processes_along(
    shop: ModuleType, queue: Queue, start: Start, stored: Stored, wait_until: Wait
) -> None:
    """No worker goes on unseen: the processes end in order, and the running job waits again."""
    [tracking_id] = queue(shop.Sit())
    workers = start("worker", "shop:jobs", "--processes=2", "--grace=0.1s")
    wait_until(tracking_id, JobStatus.RUNNING)

    workers.process.kill()
    workers.errors.read()  # ends when the last of the processes has

    job = stored(tracking_id)
    assert job is not None
    assert (job.status, job.attempt) == (JobStatus.PENDING, 0)


def test_a_wrong_configuration_ends_them_all(start: Start) -> None:
    """What no restart can mend is not restarted: the command ends with 78."""
    workers = start("worker", "shop:jobs", "--processes=2", "--queues=Gret")

    workers.wait_for("no handler for the queue 'Gret'")

    assert workers.end() == ExitCode.CONFIGURATION


def test_one_health_file_speaks_for_all(start: Start, tmp_path: Path) -> None:
    """It is there only while each process shows signs of life, and nothing is left of it afterwards."""
    health = tmp_path / "health"
    workers = start("worker", "shop:jobs", "--processes=2", f"--health-file={health}")
    workers.wait_for("works on")
    workers.wait_for("works on")
    while not health.exists():
        time.sleep(0.01)
    parts = sorted(path.name for path in tmp_path.glob("health*"))

    workers.process.terminate()
    workers.end()

    assert parts == ["health", "health.1", "health.2"]
    assert list(tmp_path.glob("health*")) == []


def is_alive(pid: int) -> bool:
    """Whether there is a process *pid*."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
