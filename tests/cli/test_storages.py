"""`pannier ping` and `pannier adapters`."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

from pannier.cli.durations import spell
from pannier.cli.exits import ExitCode

from .conftest import Ended

Run = Callable[..., Ended]


def test_a_storage_that_answers_is_told_so(pannier: Run, empty: str) -> None:
    """`ping` says which storage answered, and how fast."""
    ended = pannier("ping", empty)

    assert ended.code == 0
    assert ended.out.startswith(f"{empty} answers in ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("ping",),
        ("adapters",),
        ("queues",),
        ("jobs", "list"),
        ("jobs", "show"),
        ("jobs", "cancel"),
        ("jobs", "requeue"),
        ("purge", "--older-than=1h"),
    ],
    ids=" ".join,
)
def test_a_look_at_a_misspelled_file_makes_none(
    pannier: Run, url: str, tmp_path: Path, arguments: Sequence[str]
) -> None:
    """Whoever mistypes the name of a file is told so, and finds no empty one afterwards."""
    ids = [uuid4()] * (arguments[-1] in {"show", "cancel", "requeue"})

    ended = pannier(*arguments, url, *ids)

    assert ended.code == ExitCode.CONFIGURATION
    assert f"{url!r} can't be used: there is no such storage" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_a_target(pannier: Run, shop: ModuleType, url: str) -> None:
    """MODULE:JOBS stands for the storage of those job queues."""
    assert pannier("ping", f"{shop.__name__}:jobs").out.startswith(url)


def test_the_environment_is_a_target(pannier: Run, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a target on the command line PANNIER_STORAGE names it."""
    monkeypatch.setenv("PANNIER_STORAGE", empty)

    assert pannier("ping").code == 0


def test_installed_adapters_are_listed_with_their_schemes_and_options(pannier: Run) -> None:
    """Each adapter stands there with its URL schemes, its package, and the options of its URLs."""
    out = pannier("adapters").out

    assert "memory://" in out
    assert "sqlite://" in out
    assert "pannier-sqlite" in out
    assert "?synchronous=" in out


def test_what_an_opened_storage_can_do_is_told(pannier: Run) -> None:
    """Given a target, `adapters` opens it and tells its capabilities and add-ons."""
    lines = {tuple(line.split()) for line in pannier("adapters", "memory://").out.splitlines()}

    assert ("survives", "a", "crash", "no") in lines
    assert ("add-on", "inspect", "yes") in lines
    assert ("add-on", "transactions", "no") in lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1.25, "1.2 s"),
        (59, "59 s"),
        (600, "10 min"),
        (3 * 3600, "3 h"),
        (3 * 86400, "3 d"),
        (-5, "5.0 s"),
    ],
)
def test_a_duration_is_worded_with_one_unit(seconds: float, text: str) -> None:
    """A person reads the size of a duration at a glance, whichever way it points."""
    assert spell(timedelta(seconds=seconds)) == text
