"""The simulation finds every engine that is wrong on purpose: only so its silence means something."""

from itertools import chain

import pytest

from tests.engine.simulation.mutants import MUTANTS, Mutant
from tests.engine.simulation.run import run

SEEDS = 400


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule} {mutant.fault}")
def test_a_wrong_engine_is_found(mutant: Mutant) -> None:
    """Within 400 seeds, each of which the right engine survives."""
    with mutant.planted():
        violations = chain.from_iterable(run(seed).violations for seed in range(1, SEEDS + 1))
        assert next(violations, None) is not None
