"""When a failed attempt is tried again."""

from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Final

from attrs import field, frozen


def _kinds(given: Iterable[type[BaseException]]) -> tuple[type[BaseException], ...]:
    """Spell the converter's type out: checkers can't tell what a bare `tuple` takes."""
    return tuple(given)


@frozen(kw_only=True)
class RetryPolicy:
    """
    Exponential backoff with full jitter.

    The delay before attempt n + 1 is drawn evenly from 0 to `first_delay * factor ** (n - 1)`, at most `max_delay`:
    full jitter spreads a burst of failures best (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
    Blog, 2015).

    Attributes:
        max_attempts: How many attempts in all; at least 1, which means no retry.
        first_delay: The upper bound of the first delay.
        factor: What the bound grows by.
        max_delay: The most it grows to.
        give_up_on: Exceptions that no further attempt can mend.
    """

    max_attempts: int = 10
    first_delay: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_delay: timedelta = timedelta(minutes=10)
    give_up_on: tuple[type[BaseException], ...] = field(default=(), converter=_kinds)

    def __attrs_post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        if self.first_delay < timedelta(0) or self.max_delay < self.first_delay:
            raise ValueError("first_delay must be at least 0, and max_delay at least first_delay")
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, not {self.factor}")
        for kind in self.give_up_on:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(f"give_up_on must hold exception classes, not {kind!r}")

    def delay(self, *, attempt: int, error: BaseException, random: Random) -> timedelta | None:
        """
        Return how long to wait after the failed *attempt* (from 1), or None to give up.

        A worker's death counts for nothing here: the worker passes the attempt less the lapses (E14).
        """
        if attempt >= self.max_attempts or isinstance(error, self.give_up_on):
            return None
        try:
            bound = min(self.max_delay, self.first_delay * self.factor ** (attempt - 1))
        except OverflowError:  # a timedelta ends at 2.7 million years, a float near 2 ** 1024
            bound = self.max_delay
        return bound * random.random()


NO_RETRY: Final = RetryPolicy(max_attempts=1)
"""One attempt; a failure is final."""
