"""Sub-commands from other distributions."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from .conftest import Ended

Run = Callable[..., Ended]
Install = Callable[..., None]

ONE = """
import typer

app = typer.Typer()


@app.command()
def only(word: str) -> None:
    print(f"said {word}")
"""

SEVERAL = f"""{ONE}

@app.command()
def other() -> None:
    print("other")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with the module `addition`, and an entry point in the group `pannier.cli`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "addition", raising=False)

    def put_there(source: str, *, name: str = "addition", value: str = "addition:app") -> None:
        (tmp_path / "addition.py").write_text(source)
        metadata = tmp_path / "addition-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: addition\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[pannier.cli]\n{name} = {value}\n")

    return put_there


def test_one_command_becomes_a_command(pannier: Run, install: Install) -> None:
    """A Typer with one command is run under the name of its entry point."""
    install(ONE)

    assert pannier("addition", "hello").out == "said hello\n"


def test_several_commands_become_a_group(pannier: Run, install: Install) -> None:
    """A Typer with several commands is a group under the name of its entry point."""
    install(SEVERAL)

    assert pannier("addition", "other").out == "other\n"


def test_the_help_lists_it(pannier: Run, install: Install) -> None:
    """What is installed stands among the commands."""
    install(ONE)

    assert "addition" in pannier("--help").out


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("raise RuntimeError('out of order')", "addition", "can't be imported: RuntimeError: out of order"),
        ("app = 5", "addition", "is no typer.Typer, but an int"),
        (ONE, "worker", "pannier has a command 'worker' of its own"),
    ],
)
def test_a_broken_one_is_reported_and_the_rest_works(
    pannier: Run, install: Install, source: str, name: str, reason: str
) -> None:
    """It is left out with its name and the reason, and nothing else suffers."""
    install(source, name=name)

    ended = pannier("--help")

    assert ended.code == 0
    assert f"plugin '{name}' can't be used" in ended.err
    assert reason in ended.err
    assert "demo" in ended.out


@pytest.mark.parametrize("arguments", [("ping", "memory://"), ("--version",)], ids=" ".join)
def test_a_command_of_our_own_loads_none(pannier: Run, install: Install, arguments: Sequence[str]) -> None:
    """A worker does not pay for, or suffer from, what other distributions add."""
    install("raise RuntimeError('out of order')")

    ended = pannier(*arguments)

    assert (ended.code, ended.err) == (0, "")


def test_the_broken_ones_stand_among_the_adapters(pannier: Run, install: Install) -> None:
    """`adapters` says what is wrong with all that is installed."""
    install("raise RuntimeError('out of order')")

    assert "out of order" in pannier("adapters").out
