"""Counts what came of the examples, and keeps a record of a long run where one is asked for."""

import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.trials import here_and_now, write_trial

FOLDER: Final = "PANNIER_FUZZ_RECORD"
"""Where a record of each fuzzed test that passes is written: an environment variable, `reliability/trials` for ours."""

PASSED: Final = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself passed."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Counts how the examples of a test ended; one that shows a fault is not among them."""
    counts, began = Counter[str](), time.monotonic()
    yield counts
    if {FOLDER, "PANNIER_FUZZ_EXAMPLES"} <= os.environ.keys() and request.node.stash.get(PASSED, False):
        name = request.node.originalname.removeprefix("test_")
        trial = here_and_now(
            f"fuzz-{name.replace('_', '-')}",
            tried=f"{name.replace('_', ' ')}",
            command=f"PANNIER_FUZZ_EXAMPLES={os.environ['PANNIER_FUZZ_EXAMPLES']} pytest {request.node.nodeid}",
            unit="examples",
            times=counts.total(),
            failed=0,
            counts=counts,
            seconds=time.monotonic() - began,
        )
        write_trial(trial, Path(os.environ[FOLDER]))
