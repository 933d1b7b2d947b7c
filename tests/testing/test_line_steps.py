"""The search for the line at which a call takes effect."""

from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pannier_testing.line_steps import Search

if TYPE_CHECKING:
    from pannier_testing.trial import Trial


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("effect", [0, 1, 37, 99, 120])
def test_the_search_comes_upon_the_line_before_the_effect(effect: int, seed: int) -> None:
    """Whatever the seed, both the last line before the effect and the first one after it are tried."""
    trial = cast("Trial", SimpleNamespace(rng=Random(seed)))
    search = Search("store", 100)
    tried = {-1}

    while search.is_open:
        line = search.next_line(trial)
        tried.add(line)
        search.learn(line, is_done=line >= effect)

    assert {effect - 1, effect} <= tried
