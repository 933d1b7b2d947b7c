"""A seed is a history: the same one each time, in every process."""

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from itertools import count

import pytest

from tests.engine.simulation.mutants import MUTANTS
from tests.engine.simulation.run import run

SEED = 7
FAULT = "outcomes are dropped on a fault"
"""What breaks a rule in some seeds, and in others none."""

PROGRAM = """
from hashlib import sha256
import logging
from tests.engine.simulation.run import run
logging.disable(logging.CRITICAL)
print(sha256("\\n".join(run({seed}).trace).encode()).hexdigest())
"""
WRONG_PROGRAM = """
from hashlib import sha256
import logging
from tests.engine.simulation.mutants import MUTANTS
from tests.engine.simulation.run import run
logging.disable(logging.CRITICAL)
[mutant] = [each for each in MUTANTS if each.fault == {fault!r}]
with mutant.planted():
    print(sha256("\\n".join(run({seed}).trace).encode()).hexdigest())
"""


def test_a_seed_gives_the_same_history_again() -> None:
    """Nothing but the seed decides: no clock, no thread, no address of an object."""
    assert run(SEED).trace == run(SEED).trace


def test_two_seeds_give_two_histories() -> None:
    """The seed decides."""
    assert run(SEED).trace != run(SEED + 1).trace


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_seed_gives_the_same_history_in_another_process(hash_seed: str) -> None:
    """Nor does the order of sets of text, which differs from process to process, nor what ran there before."""
    assert printed_by(PROGRAM.format(seed=SEED), hash_seed=hash_seed) == digest(run(SEED).trace)


def test_a_seed_that_breaks_a_rule_breaks_it_again_in_another_process() -> None:
    """What is found among a thousand seeds can be looked at by itself: the same violation, after the same history."""
    [mutant] = [each for each in MUTANTS if each.fault == FAULT]
    with mutant.planted():
        failing = next(report for seed in count(1) if (report := run(seed)).violations)

    assert failing.seed > 1
    assert any("VIOLATION" in line for line in failing.trace)
    program = WRONG_PROGRAM.format(fault=FAULT, seed=failing.seed)
    assert printed_by(program, hash_seed="0") == digest(failing.trace)


def printed_by(program: str, *, hash_seed: str) -> str:
    """Run *program* in a process of its own, and return what it prints."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    child = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return child.stdout.strip()


def digest(trace: Sequence[str]) -> str:
    """Return what tells a history from any other."""
    return sha256("\n".join(trace).encode()).hexdigest()
