"""Worker processes on one storage, and the journal of what their handlers did."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

DEADLINE_SECONDS: Final = 90

ROOT: Final = Path(__file__).parents[2]


def processor_seconds(pid: int) -> float:
    """Return how long a process has been on a processor so far, in all of its threads."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Crew:
    """Processes that run `pannier worker` on the program of the tests, with leases of two seconds."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.journal = str(folder / "journal")
        self._workers: list[subprocess.Popen[bytes]] = []

    def hire(self) -> "subprocess.Popen[bytes]":
        """Start one more."""
        worker = subprocess.Popen(
            [sys.executable, "-m", "pannier.cli", "worker", "tests.engine.program:jobs", "--lease", "2s"],
            env={**os.environ, "PANNIER_TEST_STORAGE": self.url},
            cwd=ROOT,
        )
        self._workers.append(worker)
        return worker

    def end(self) -> None:
        """End every one that still runs."""
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def count(self, what: str) -> int:
        """Return how often *what* stands in the journal."""
        path = Path(self.journal)
        return sum(line.startswith(what) for line in path.read_text().splitlines()) if path.exists() else 0

    def wait_for(self, what: str, count: int) -> None:
        """Wait until *what* stands in the journal *count* times."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self.count(what) < count:
            assert time.monotonic() < end, f"waited too long for {count} times {what!r}: {self.count(what)}"
            time.sleep(0.01)
