"""Records of runs, and the page that is made of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from attrs import evolve
from typer.testing import CliRunner

from pannier_testing.torture.command import CommandServer, app
from pannier_testing.torture.oracle import Finding, Verdict
from pannier_testing.torture.plan import FaultKind, Plan
from pannier_testing.torture.record import Record, read_records, record_of, write_record
from pannier_testing.torture.report import page, upper_bound

PLAN = Plan(jobs=2000, faults={FaultKind.KILL: 50, FaultKind.DISK: 0}, seed=7, pause_seconds=1)


def a_record(plan: Plan = PLAN, verdict: Verdict | None = None) -> Record:
    """Return a record of a run."""
    clean = Verdict(findings=(), counts={"lost": 0, "jobs_acknowledged": plan.jobs, "redeliveries": 31})
    return record_of(
        verdict or clean,
        plan,
        storage="sqlite",
        engine="SQLite 3.45.1",
        seconds=12.34,
        cpus=2,
        today=datetime(2030, 1, 1, tzinfo=UTC),
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Written, and read again; its file is called after the run."""
    record = a_record()

    path = write_record(record, tmp_path / "records")

    assert path.name == "sqlite-kill50-jobs2000-seed7.json"
    assert read_records(path.parent) == [record]


def test_a_record_names_versions_and_no_host(tmp_path: Path) -> None:
    """What a reader needs to repeat it, and nothing that tells whose machine it was."""
    record = a_record()

    assert record.versions["engine"] == "SQLite 3.45.1"
    assert set(record.versions) == {"pannier", "pannier-sqlite", "engine", "python"}
    assert set(record.machine) == {"system", "machine", "cpus"}
    assert set(record.plan) == {"jobs", "faults", "seed", "workers", "lease_seconds", "pause_seconds"}


@pytest.mark.parametrize(
    ("failures", "trials", "bound"),
    [(0, 300, 3 / 300), (0, 1, 1.0), (0, 0, 1.0), (1, 1000, 4.744 / 1000), (3, 1000, 7.754 / 1000)],
)
def test_the_upper_bound_is_that_of_poisson(failures: int, trials: int, bound: float) -> None:
    """With no failure it is the rule of three; the others are from tables of the Poisson distribution."""
    assert upper_bound(failures, trials) == pytest.approx(bound, rel=0.002)


def test_runs_of_a_kind_are_added_up() -> None:
    """A row of the page is all runs of the same faults on a storage."""
    plans = PLAN, evolve(PLAN, seed=8), evolve(PLAN, faults={})
    made = page([a_record(plan) for plan in plans])

    assert (
        "| kill -9 of a worker or of the process that queues | SQLite | 2 | 100 | 4,000 | 0 | 0 | 0 | 0 | 0 | 0.03 |"
        in made
    )
    assert (
        "| no fault: several workers race for the jobs | SQLite | 1 | 0 | 2,000 | 0 | 0 | 0 | 0 | 0 | 1.5e-03 |" in made
    )


def test_a_storm_of_kills_has_a_row_of_its_own() -> None:
    """Kills without a pause say nothing about kills with one; a record that does not tell is from before pauses."""
    old = a_record(evolve(PLAN, seed=8, pause_seconds=0))
    untold = evolve(old, plan={name: value for name, value in old.plan.items() if name != "pause_seconds"})

    made = page([a_record(), untold])

    kills = "| kill -9 of a worker or of the process that queues"
    assert f"{kills} | SQLite | 1 | 50 | 2,000 |" in made
    assert f"{kills}, without a pause | SQLite | 1 | 50 | 2,000 |" in made


def test_what_is_late_in_a_standstill_is_told_apart() -> None:
    """Of the late ones it says for how many the storage had no time."""
    counts = {"interrupted_handlers_restarted": 9, "restarted_late": 3, "longest_restart_seconds": 4.4}
    excused = Verdict(findings=(), counts=counts | {"late_in_a_standstill": 2})

    assert "| 9 | 3 (2 in a standstill) | 4.4 s |" in page([a_record(verdict=excused)])
    assert "| 9 | 3 | 4.4 s |" in page([a_record(verdict=Verdict(findings=(), counts=counts))])


def test_failures_are_shown() -> None:
    """The page hides nothing, and the bound grows."""
    bad = Verdict(
        findings=(Finding("lost", "a job is gone"),), counts={"lost": 2, "stalls": 1, "jobs_acknowledged": 2000}
    )

    assert "| SQLite | 1 | 50 | 2,000 | 2 | 0 | 0 | 0 | 1 | 0.16 |" in page([a_record(verdict=bad)])


def test_the_command_makes_the_page_of_a_folder(tmp_path: Path) -> None:
    """`pannier torture --report FOLDER` prints it."""
    write_record(a_record(), tmp_path)

    done = CliRunner().invoke(app, ["--report", str(tmp_path)])

    assert done.exit_code == 0
    assert done.output == page(read_records(tmp_path))


def test_the_command_tortures_and_writes_a_record(tmp_path: Path) -> None:
    """With 0 for a clean run, whose record says what was done."""
    arguments = [
        "sqlite:///{tmp}/jobs.db",
        "--kills=2",
        "--jobs=60",
        "--lease=1",
        "--seed=3",
        "--pause=0",
        f"--record={tmp_path}",
    ]

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    [path] = tmp_path.iterdir()
    written = json.loads(path.read_text())
    assert written["plan"]["faults"] == {"kill": 2}
    assert written["counts"]["jobs_acknowledged"] >= 60


def test_a_server_is_killed_and_started_by_commands(tmp_path: Path) -> None:
    """Whatever an author's server takes: two command lines, of which a failing one is an error."""
    server = CommandServer(f"touch {tmp_path}/crashed", f"cp {tmp_path}/crashed {tmp_path}/started")

    server.crash()
    server.start()

    assert {path.name for path in tmp_path.iterdir()} == {"crashed", "started"}
    with pytest.raises(CalledProcessError):
        CommandServer("false", "true").crash()


def test_the_command_refuses_what_it_can_not_do(tmp_path: Path) -> None:
    """A storage without a server can't be cut off; nor does that leave a journal to be copied."""
    done = CliRunner().invoke(app, ["sqlite:///{tmp}/jobs.db", "--network=1", f"--journal={tmp_path}/journal"])

    assert done.exit_code == 2
    assert "names no server" in done.output.replace("\n", " ")


def test_a_journal_that_can_not_be_kept_is_refused_before_the_run(tmp_path: Path) -> None:
    """Not after it, when the run would be lost with it."""
    done = CliRunner().invoke(app, ["sqlite:///{tmp}/jobs.db", f"--journal={tmp_path}/no/folder"])

    assert done.exit_code == 2
    assert "journal" in done.output
