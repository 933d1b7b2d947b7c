"""The torture rig finds what is wrong, in storages and in workers, and nothing where all is well."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from tempfile import NamedTemporaryFile

import pytest

from pannier.errors import ConfigurationError
from pannier_testing.subject import Subject
from pannier_testing.torture.immutable import can_be_immutable
from pannier_testing.torture.oracle import Verdict
from pannier_testing.torture.plan import FaultKind, Plan
from pannier_testing.torture.rig import torture
from tests.servers.mongo import MongoServer

CARELESS = "tests.torture.plants:outlive_leases"
PLANTED = ("tests.torture.plants:plugin",)


def tortured(name: str, faults: Mapping[FaultKind, int], *, lease: float = 1.0, prelude: str = "") -> Verdict:
    """Torture the SQLite storage that is planted as *name*."""
    subject = Subject(label=name, url_for=lambda place: place.fill(f"{name}:///{{tmp}}/jobs.db"), adapters=PLANTED)
    plan = Plan(jobs=200, faults=faults, seed=7, lease_seconds=lease, patience_seconds=5, prelude=prelude)
    return asyncio.run(torture(subject, plan))


def test_a_right_storage_passes() -> None:
    """Kills, zombies, full disks, full memories: nothing is found, and each of them was met by jobs in progress."""
    kinds = (FaultKind.KILL, FaultKind.FREEZE, FaultKind.DISK, FaultKind.MEMORY)

    verdict = tortured("honest", dict.fromkeys(kinds, 3))

    assert verdict.findings == ()
    assert verdict.counts["jobs_acknowledged"] >= 200
    assert verdict.counts["in_flight_at_faults"] > 0
    assert verdict.counts["redeliveries"] > 0
    assert verdict.counts["zombies"] == 3


def test_a_disk_that_can_not_be_written_is_survived(tmp_path: Path) -> None:
    """Workers have the files open when nobody may write them any more; nothing is lost, and all go on afterwards."""
    if not can_be_immutable(tmp_path):
        pytest.skip("not run: files can't be made immutable here")

    verdict = tortured("honest", {FaultKind.READ_ONLY: 3})

    assert verdict.findings == ()
    assert verdict.counts["in_flight_at_faults"] > 0
    assert verdict.counts["longest_recovery_seconds"] > 0


@pytest.mark.parametrize(
    ("name", "faults", "found"),
    [
        ("loses-jobs", {}, "lost"),
        ("adds-jobs", {}, "unexpected"),
        ("gives-out-twice", {}, "claimed_under_a_live_lease"),
        ("keeps-no-results", {}, "results_missing"),
        ("ignores-keys", {}, "keys_broken"),
        ("miscounts", {}, "counts_wrong"),
        ("refuses", {FaultKind.KILL: 50}, "stalls"),
        ("starts-early", {}, "started_before_due"),
    ],
)
def test_a_wrong_storage_is_found_out(name: str, faults: Mapping[FaultKind, int], found: str) -> None:
    """Each planted storage is convicted of what it does."""
    verdict = tortured(name, faults)

    assert found in {finding.invariant for finding in verdict.findings}


def test_a_storage_without_fences_is_found_out_by_zombies() -> None:
    """Workers that settle after their leases are refused by every storage that has fences."""
    verdict = tortured("has-no-fences", {FaultKind.FREEZE: 4}, lease=0.15, prelude=CARELESS)

    assert "stale_writes_accepted" in {finding.invariant for finding in verdict.findings}


def test_a_worker_that_outlives_its_leases_is_found_out() -> None:
    """It goes on with jobs whose leases have lapsed, and which others run."""
    verdict = tortured("honest", {}, lease=0.15, prelude=CARELESS)

    assert "handlers_overlapped" in {finding.invariant for finding in verdict.findings}


@pytest.mark.parametrize("kind", [FaultKind.NETWORK, FaultKind.SERVER, FaultKind.CLOCK])
def test_what_can_not_be_done_to_a_storage_is_refused(kind: FaultKind) -> None:
    """SQLite has no server to kill or cut off, and no clock of its own."""
    with pytest.raises(ConfigurationError, match=f"no {kind} faults"):
        tortured("honest", {kind: 1})


def test_a_driver_that_goes_past_the_proxy_is_refused(mongo_server: MongoServer) -> None:
    """It would meet no fault of the network, and the run would look clean: MongoDB's finds its way to the server."""
    subject = Subject(label="mongo", url_for=lambda place: place.fill(f"{mongo_server.url}/{{namespace}}?timeout=10"))

    with pytest.raises(ConfigurationError, match=r"no network faults .* goes past the proxy"):
        asyncio.run(torture(subject, Plan(jobs=1, faults={FaultKind.NETWORK: 1})))


@pytest.mark.parametrize("kind", [FaultKind.DISK, FaultKind.MEMORY])
def test_limits_are_refused_where_there_are_none(kind: FaultKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's limits can be set on Linux only."""
    monkeypatch.delattr("resource.prlimit")

    with pytest.raises(ConfigurationError, match=f"no {kind} faults .* can't limit"):
        tortured("honest", {kind: 1})


def test_files_stay_writable_where_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system or the user can't lock files, that is said; nothing is taken for tried."""
    monkeypatch.setattr("pannier_testing.torture.rig.can_be_immutable", lambda folder: False)

    with pytest.raises(ConfigurationError, match=r"no readonly faults .* can't be made immutable here"):
        tortured("honest", {FaultKind.READ_ONLY: 1})


def test_no_process_outlives_the_rig(tmp_path: Path) -> None:
    """Whoever kills the rig is left with no worker that goes on for ever."""
    url = f"sqlite:///{tmp_path}/{{namespace}}.db"
    command = [sys.executable, "-m", "pannier_testing.torture", url, "--jobs=1000000", "--kills=1000", "--lease=1"]
    rig = Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        wait_until(lambda: len(descendants(rig.pid)) >= 4)  # the process that forks, two workers, one that queues
        family = descendants(rig.pid)
    finally:
        rig.kill()
        rig.wait()

    wait_until(lambda: not any(map(is_alive, family)))


def descendants(pid: int) -> set[int]:
    """Return the processes that *pid* has started, and those that they have."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    mine = {int(word) for word in children.read_text().split()} if children.exists() else set[int]()
    return mine.union(*map(descendants, mine))


def is_alive(pid: int) -> bool:
    """Whether *pid* runs; where nobody reaps orphans a dead one keeps its place."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until *condition* gives something true, at most a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_processes_are_let_alone_after_a_fault() -> None:
    """Their replacements live as long as the pause at least, so kills don't come faster than a worker can start."""
    subject = Subject(label="sqlite", url_for=lambda place: place.fill("sqlite:///{tmp}/jobs.db"))
    plan = Plan(jobs=60, faults={FaultKind.KILL: 3}, seed=7, lease_seconds=1, pause_seconds=0.5, patience_seconds=20)

    with NamedTemporaryFile() as journal:
        verdict = asyncio.run(torture(subject, plan, journal=Path(journal.name)))
        noted = [json.loads(line) for line in journal.read().splitlines()]

    assert verdict.findings == ()
    killed_at = [line["at"] for line in noted if line["what"] == "fault"]
    assert len(killed_at) == 3
    assert all(second - first >= 0.5 for first, second in pairwise(killed_at))


def test_a_storage_in_memory_is_refused() -> None:
    """What dies with its process can't be tortured."""
    subject = Subject(label="memory", url_for=lambda place: place.fill("memory://{namespace}"))

    with pytest.raises(ConfigurationError, match="durable"):
        asyncio.run(torture(subject, Plan(jobs=1)))
