"""What is made from the code, and from records of runs, is what they make."""

from pathlib import Path

import pytest
from docs._make import DOCS, MADE

from tests.trials import here_and_now, read_trials, write_trial


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(DOCS.parent))) for path in MADE])
def test_what_is_made_from_the_code_is_up_to_date(path: Path) -> None:
    """`python -m docs._make` would change nothing."""
    assert path.read_text() == MADE[path]()


def test_a_record_of_a_long_run_comes_back_as_it_was(tmp_path: Path) -> None:
    """Written, and read again."""
    trial = here_and_now(
        "simulation-seeds10-first1",
        tried="whole workers",
        command="python -m tests.engine.simulation --seeds 10",
        unit="seeds",
        times=10,
        failed=1,
        counts={"faults": 50, "cancels": 30},
        seconds=1.26,
    )

    assert write_trial(trial, tmp_path / "trials").name == "simulation-seeds10-first1.json"
    assert read_trials(tmp_path / "trials") == [trial]
    assert trial.seconds == 1.3
