"""Records of long runs of tests that need no real processes, kept in `reliability/trials/` for RELIABILITY.md."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import cattrs
from attrs import frozen


@frozen(kw_only=True)
class Trial:
    """
    One run of one thing.

    Attributes:
        name: What its file is called, without the ending.
        tried: What was tried, in words.
        command: What repeats it.
        unit: What was counted.
        times: How often.
        failed: How many of them failed.
        counts: What was among them.
        python: The version of Python.
        on: The day.
        seconds: How long it took.
    """

    name: str
    tried: str
    command: str
    unit: str
    times: int
    failed: int
    counts: Mapping[str, int]
    python: str
    on: str
    seconds: float


def here_and_now(
    name: str,
    *,
    tried: str,
    command: str,
    unit: str,
    times: int,
    failed: int,
    counts: Mapping[str, int],
    seconds: float,
) -> Trial:
    """Return the record of a run that has just ended."""
    return Trial(
        name=name,
        tried=tried,
        command=command,
        unit=unit,
        times=times,
        failed=failed,
        counts=dict(sorted(counts.items())),
        python=platform.python_version(),
        on=datetime.now(UTC).date().isoformat(),
        seconds=round(seconds, 1),
    )


def write_trial(trial: Trial, folder: Path) -> Path:
    """Write *trial* into *folder*, which is made; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{trial.name}.json"
    path.write_text(json.dumps(cattrs.unstructure(trial), indent=2) + "\n", "utf-8")
    return path


def read_trials(folder: Path) -> list[Trial]:
    """Return all records in *folder*, by file name."""
    return [cattrs.structure(json.loads(path.read_text("utf-8")), Trial) for path in sorted(folder.glob("*.json"))]
