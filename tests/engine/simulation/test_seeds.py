"""Every seed keeps every rule of the engine, and has seen enough to have been able to break one."""

import os

import pytest

from tests.engine.simulation.run import run

SEEDS = int(os.environ.get("PANNIER_SIMULATION_SEEDS", "1000"))
BLOCK = 25


@pytest.mark.parametrize("first", range(1, SEEDS + 1, BLOCK))
def test_no_seed_breaks_a_rule(first: int) -> None:
    """
    E1-E10, E12-E16, I1-I8, through at least 5 faults, 3 lapsed leases and 3 cancelled jobs that were running.

    `python -m tests.engine.simulation --show SEED` tells the history of a seed.
    """
    reports = [run(seed) for seed in range(first, min(first + BLOCK, SEEDS + 1))]
    assert [f"seed {report.seed}: {story}" for report in reports for story in report.violations] == []
    assert [f"seed {report.seed}: only {story}" for report in reports for story in report.shortcomings] == []
