"""`pannier demo`."""

import ast
import os
import re
import signal
from collections.abc import Callable, Mapping
from datetime import timedelta
from io import StringIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from attrs import evolve
from rich.console import Console

import pannier as public_api
from pannier import JobProgress, JobStatus
from pannier.cli import demo
from pannier.cli.demo.board import Board
from pannier.cli.demo.plan import KINDS, Planned, make_plan
from pannier.cli.demo.verdict import fates, faults_of
from pannier.cli.demo.work import Deliver, Thumbnail, Transcode
from pannier.cli.exits import ExitCode

from .conftest import Ended, Running

Run = Callable[..., Ended]
Start = Callable[..., Running]

SOURCES = sorted(Path(demo.__file__).parent.glob("*.py"))


def test_it_ends_well(start: Start) -> None:
    """On an SQLite file of its own the demo finds everything as it should be."""
    running = start("demo", "--seed=7")
    output = running.output.read()

    assert running.end() == 0
    assert "--seed 7" in output
    assert re.search(r"\d+ jobs, each as it should be, in", output)


def test_its_jobs_are_left_in_a_storage_that_is_named(pannier: Run, start: Start, url: str) -> None:
    """With --storage whoever is curious can look at the jobs afterwards."""
    running = start("demo", f"--storage={url}")
    running.output.read()

    assert running.end() == 0
    listed = pannier("jobs", "list", url, "--json", "--limit=1000").out
    assert len(listed.splitlines()) == len(make_plan(0))


def test_it_fails_when_its_worker_is_killed(start: Start, url: str) -> None:
    """Nothing is glossed over: without its worker the demo can't end well, and says why."""
    running = start("demo", f"--storage={url}")
    match = re.search(r"worker process (\d+)", running.wait_for_output("worker process"))
    assert match is not None
    pid = int(match[1])

    os.kill(pid, signal.SIGKILL)

    assert f"the worker process {pid} ended (-9) before its jobs were done" in running.wait_for("worker process")
    assert running.end() == 1


@pytest.mark.parametrize("seed", range(20))
def test_no_kind_of_job_takes_longer_than_four_seconds(seed: int) -> None:
    """The kinds run side by side: the demo is over in 15 s wherever three processes start in the rest of that time."""
    plan = make_plan(seed)
    commands = [planned.command for planned in plan]

    assert sum(each.seconds for each in commands if isinstance(each, Thumbnail)) < 4 * 4  # in four threads
    assert max(each.frames * each.seconds_a_frame for each in commands if isinstance(each, Transcode)) < 4
    assert max(planned.delay for planned in plan) < timedelta(seconds=4)


def test_it_refuses_a_storage_that_no_other_process_can_share(pannier: Run) -> None:
    """Its worker would wait for ever on jobs that it can't see; the message says what to do instead."""
    ended = pannier("demo", "--storage=memory://demo")

    assert ended.code == ExitCode.CONFIGURATION
    assert "other processes can't share memory://demo; leave --storage out" in ended.err


def test_a_seed_decides_the_plan() -> None:
    """The same seed gives the same jobs in the same order, another one gives others."""
    assert make_plan(1) == make_plan(1)
    assert make_plan(1) != make_plan(2)


def test_the_plan_holds_a_few_dozen_jobs_of_every_kind() -> None:
    """Every kind and every end that the demo promises is among the jobs."""
    plan = make_plan(0)

    assert 24 <= len(plan) <= 60
    assert {planned.kind for planned in plan} == set(KINDS)
    assert {planned.status for planned in plan} == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    assert any(planned.delay for planned in plan)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_only_the_public_api_is_used(source: Path) -> None:
    """What the demo shows, a user can write: from pannier it imports public names only."""
    imported = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)]
    inner = [node.module for node in imported if (node.module or "").startswith("pannier.")]
    names = {alias.name for node in imported if node.module == "pannier" for alias in node.names}

    assert [module for module in inner if not (module or "").startswith("pannier.cli.")] == []
    assert names <= set(public_api.__all__)


PLANNED = Planned(
    command=Deliver("anna.example", 1),
    label="anna.example",
    status=JobStatus.SUCCEEDED,
    attempts=2,
    result=2,
    failures=1,
)
FOUND: Mapping[str, object] = {
    "status": "succeeded",
    "attempt": 2,
    "result": {"encoding": "json", "data": 2},
    "errors": [{"message": "anna.example hung up"}],
    "execute_after": "2026-01-01T00:00:00+00:00",
    "finished_at": "2026-01-01T00:00:01+00:00",
    "steps": None,
}


def test_a_job_that_is_as_planned_has_no_fault() -> None:
    """Status, attempts, result, errors and times are those of the plan."""
    assert list(faults_of(PLANNED, FOUND)) == []


@pytest.mark.parametrize(
    ("difference", "fault"),
    [
        ({"status": "failed"}, "its status is 'failed' instead of 'succeeded'"),
        ({"attempt": 1}, "its attempt is 1 instead of 2"),
        ({"result": None}, "its result is None instead of 2"),
        ({"result": {"encoding": "json", "data": 3}}, "its result is 3 instead of 2"),
        ({"errors": []}, "its number of errors is 0 instead of 1"),
        ({"finished_at": "2025-12-31T23:59:59+00:00"}, "it ran before it was due"),
    ],
)
def test_a_job_that_differs_from_the_plan_is_a_fault(difference: Mapping[str, object], fault: str) -> None:
    """Each difference is told, and nothing else."""
    assert list(faults_of(PLANNED, {**FOUND, **difference})) == [fault]


def test_a_job_that_is_not_there_is_a_fault() -> None:
    """What the storage has lost is missed."""
    assert list(faults_of(PLANNED, None)) == ["it is not in the storage"]


def test_the_table_marks_what_is_wrong() -> None:
    """Each job stands in the table, marked by whether it is as it should be."""
    right, wrong, lost = uuid4(), uuid4(), uuid4()
    plan = [(right, PLANNED), (wrong, evolve(PLANNED, label="bela.example")), (lost, evolve(PLANNED, label="cleo"))]

    text = drawn(fates(plan, {right: FOUND, wrong: {**FOUND, "attempt": 9}}))

    marks = {line.split()[2]: line.split()[0] for line in text.splitlines() if "Deliver" in line}
    assert marks == {"anna.example": "✓", "bela.example": "✗", "cleo": "✗"}


@pytest.fixture
def queued() -> list[tuple[UUID, Planned]]:
    """A plan, with the ids of its jobs."""
    return [(uuid4(), planned) for planned in make_plan(3)]


def test_the_board_fits_a_terminal(queued: list[tuple[UUID, Planned]]) -> None:
    """It needs no more than 80 columns and 22 lines, so that all of it is seen at once."""
    board = Board(queued)
    for tracking_id, _ in queued:
        board.update(tracking_id, JobProgress(status=JobStatus.SUCCEEDED))

    lines = drawn(board).splitlines()

    assert len(lines) <= 22
    assert max(map(len, lines)) <= 80


def test_the_board_shows_how_far_a_slow_job_is(queued: list[tuple[UUID, Planned]]) -> None:
    """A job that reports steps has a bar, a percentage, and what its handler says."""
    board = Board(queued)
    [tracking_id, *_] = [each for each, planned in queued if planned.kind is Transcode]

    board.update(
        tracking_id,
        JobProgress(status=JobStatus.RUNNING, current_step=1, total_steps=4, current_status="frame 1 of 4"),
    )

    assert re.search(r"frame 1 of 4 .*━.* 25%", drawn(board))


def test_the_board_tells_a_retry_from_a_job_that_has_never_run(queued: list[tuple[UUID, Planned]]) -> None:
    """A job that waits after it has run is one that will be tried again."""
    board = Board(queued)
    [tracking_id, *_] = [each for each, planned in queued if planned.kind is Deliver]
    board.update(tracking_id, JobProgress(status=JobStatus.RUNNING))

    board.update(tracking_id, JobProgress(status=JobStatus.PENDING))

    assert drawn(board).count("↻") == 1


def test_the_board_counts_what_has_ended(queued: list[tuple[UUID, Planned]]) -> None:
    """Each kind shows how many of its jobs have ended."""
    board = Board(queued)
    [tracking_id, *_] = [each for each, planned in queued if planned.kind is Thumbnail]

    board.update(tracking_id, JobProgress(status=JobStatus.SUCCEEDED))

    assert re.search(r"Thumbnail .* 1/16", drawn(board))


def drawn(picture: object) -> str:
    """Return *picture* as it is drawn on a terminal of 80 columns."""
    console = Console(file=StringIO(), width=80)
    console.print(picture)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
