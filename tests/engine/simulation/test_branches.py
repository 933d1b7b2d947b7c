"""The seeds leave nothing of the engine's own decisions out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from coverage import Coverage

from tests.engine.simulation.run import run

SEEDS: Final = 1_000
BLOCK: Final = 20

PARTS: Final = ("dispatcher", "settler", "keeper", "waker")


@pytest.mark.timeout(1800)
def test_every_branch_is_taken_within_a_thousand_seeds(tmp_path: Path) -> None:
    """Each line and each way on from it, of the parts that claim, settle, renew and wake."""
    measured = Coverage(
        branch=True, config_file=False, data_file=None, include=[f"*/pannier/worker/{part}.py" for part in PARTS]
    )
    left: Mapping[str, Sequence[object]] = {"": [""]}
    first = 1
    while left and first <= SEEDS:
        measured.start()
        for seed in range(first, first + BLOCK):
            run(seed)
        measured.stop()
        measured.json_report(outfile=str(tmp_path / "taken.json"))
        left = not_taken(json.loads((tmp_path / "taken.json").read_text()))
        first += BLOCK
    assert left == {}


def not_taken(report: Mapping[str, Any]) -> dict[str, list[object]]:
    """Return, by function, the lines and branches that *report* misses; what only an import runs is not looked at."""
    return {
        f"{Path(path).name}: {name}": missing
        for path, file in report["files"].items()
        for name, function in file["functions"].items()
        if name and (missing := [*function["missing_lines"], *function["missing_branches"]])
    }
