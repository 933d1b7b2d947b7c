"""A seed is a history: the same one each time, in every process."""

import os
import subprocess
import sys
from hashlib import sha256

import pytest

from tests.engine.simulation.run import run

SEED = 7
PROGRAM = f"""
from hashlib import sha256
import logging
from tests.engine.simulation.run import run
logging.disable(logging.CRITICAL)
print(sha256("\\n".join(run({SEED}).trace).encode()).hexdigest())
"""


def test_a_seed_gives_the_same_history_again() -> None:
    """Nothing but the seed decides: no clock, no thread, no address of an object."""
    assert run(SEED).trace == run(SEED).trace


def test_two_seeds_give_two_histories() -> None:
    """The seed decides."""
    assert run(SEED).trace != run(SEED + 1).trace


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_seed_gives_the_same_history_in_another_process(hash_seed: str) -> None:
    """Nor does the order of sets of text, which differs from process to process."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    child = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == sha256("\n".join(run(SEED).trace).encode()).hexdigest()
