"""What a person and a script get when something is wrong: one line, and an exit code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import typer

from pannier.cli.app import OWN
from pannier.cli.durations import parse_duration
from pannier.cli.exits import ExitCode, code_of, line_of
from pannier.errors import PannierError, StorageBusyError, StorageRefusedError, UnknownSchemeError

from .conftest import Ended

Run = Callable[..., Ended]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module, and return its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write_module(source: str) -> str:
        monkeypatch.delitem(sys.modules, "written", raising=False)
        (tmp_path / "written.py").write_text(source)
        return "written"

    return write_module


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("sqlit://x", "no adapter for 'sqlit'"),
        ("nonsense", "'nonsense' can't be used: a target is MODULE:JOBS, or a storage URL"),
        ("no_such_module:jobs", "there is no module 'no_such_module'"),
        ("shop:till", "it is no JobQueues but a str; the JobQueues there: jobs"),
        ("shop:nothing", "there is no 'nothing' in 'shop'; the JobQueues there: jobs"),
        ("memory://?colour=red", "unknown option 'colour'"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_a_bad_target_is_one_line_that_says_what_to_do(pannier: Run, target: str, complaint: str) -> None:
    """The line names the target and the remedy; there is no traceback, and the exit code is 78."""
    ended = pannier("ping", target)

    assert ended.code == ExitCode.CONFIGURATION
    assert complaint in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_module_that_fails_shows_its_own_traceback(pannier: Run, write: Callable[[str], str]) -> None:
    """The fault is in the user's module, so he is shown where."""
    name = write("def broken():\n    raise LookupError('no such thing')\n\nbroken()\n")

    ended = pannier("ping", f"{name}:jobs")

    assert ended.code == ExitCode.CONFIGURATION
    assert "in broken" in ended.err
    assert "importing 'written' failed: LookupError: no such thing" in ended.err.splitlines()[-1]


def test_a_module_that_misses_another_is_not_called_missing_itself(pannier: Run, write: Callable[[str], str]) -> None:
    """What can't be imported is the module's own import, not the target."""
    name = write("import no_such_dependency\n")

    ended = pannier("ping", f"{name}:jobs")

    assert "importing 'written' failed: No module named 'no_such_dependency'" in ended.err


def test_a_module_in_the_working_directory_is_found(
    pannier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory is searched, as by `python -m`."""
    (tmp_path / "nearby.py").write_text("from pannier import JobQueues\n\njobs = JobQueues('memory://')\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    assert pannier("ping", "nearby:jobs").code == 0


def test_a_password_is_never_shown(pannier: Run) -> None:
    """An error names the URL without its password."""
    ended = pannier("ping", "memory://user:swordfish@place?colour=red")

    assert "***" in ended.err
    assert "swordfish" not in ended.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownSchemeError("x", ()), ExitCode.CONFIGURATION),
        (StorageBusyError("it is busy"), ExitCode.UNAVAILABLE),
        (StorageRefusedError("it refuses"), ExitCode.FAILED),
        (PannierError("something else"), ExitCode.FAILED),
    ],
)
def test_the_exit_code_tells_who_must_act(error: PannierError, code: ExitCode) -> None:
    """Configuration is told from a storage that may answer later, and from all else."""
    assert code_of(error) is code


def test_an_error_of_several_lines_is_told_in_one() -> None:
    """A log that is read line by line keeps the message together."""
    assert line_of(PannierError("first\n  second")) == "pannier: first second"


def test_no_arguments_show_the_help(pannier: Run) -> None:
    """Somebody who types the bare command learns what there is."""
    ended = pannier()

    assert "worker" in ended.out + ended.err


def test_the_version_is_told(pannier: Run) -> None:
    """--version prints the version of the package."""
    assert pannier("--version").out.startswith("pannier 0.")


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-1s", "1e3s", "9" * 400 + "d"])
def test_nonsense_is_no_duration(text: str) -> None:
    """What is no duration is refused, with examples."""
    with pytest.raises(typer.BadParameter, match="is no duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30", 30), ("30s", 30), ("1.5m", 90), ("4h", 14400), ("7D", 604800)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """A number with a unit; seconds where there is none."""
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.usefixtures("shop")
def test_a_worker_needs_handlers(pannier: Run, shop: ModuleType, url: str) -> None:
    """A storage URL has no handlers, so no worker can be made of it."""
    ended = pannier("worker", url)

    assert ended.code == ExitCode.CONFIGURATION
    assert "a worker needs MODULE:JOBS" in ended.err
    assert shop.jobs.is_open is False


def test_a_worker_does_not_load_what_draws_tables() -> None:
    """Each of many processes pays for what it imports."""
    program = (
        "import sys\nfrom pannier.cli.app import run\nrun(['worker', '--help'])\n"
        "print('pannier.cli.showing' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout

    assert loaded.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", OWN)
def test_each_command_works_alone(pannier: Run, name: str) -> None:
    """Only the command that is named is there, with its own help."""
    ended = pannier(name, "--help")

    assert ended.code == 0
    assert f"Usage: pannier {name}" in ended.out
