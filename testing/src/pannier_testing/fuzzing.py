"""Values that Hypothesis makes up, as a plain list: a test holds the storage to all of them in a few calls."""

from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


def examples_of(strategy: SearchStrategy[T], count: int, *, seed: int) -> list[T]:
    """Return about *count* values of *strategy*, decided by *seed*; fewer only where there are no more."""
    found: list[T] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(value: T) -> None:
        found.append(value)

    keep()
    return found
