"""When a failed attempt is tried again."""

from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Final

from attrs import field, frozen

from pannier.checks import require_int, require_not_negative
from pannier.errors import ConfigurationError


def _kinds(given: Iterable[type[BaseException]]) -> tuple[type[BaseException], ...]:
    """Spell the converter's type out: checkers can't tell what a bare `tuple` takes."""
    try:
        return tuple(given)
    except TypeError as error:
        raise ConfigurationError(f"give_up_on must hold exception classes: {given!r} holds nothing") from error


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

    Raises:
        ConfigurationError: A value is of the wrong type, or out of its range; says which.
    """

    max_attempts: int = 10
    first_delay: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_delay: timedelta = timedelta(minutes=10)
    give_up_on: tuple[type[BaseException], ...] = field(default=(), converter=_kinds)

    def __attrs_post_init__(self) -> None:
        try:
            require_int(self.max_attempts, "max_attempts", minimum=1)
            require_not_negative(self.first_delay, "first_delay")
            require_not_negative(self.max_delay, "max_delay")
        except (TypeError, ValueError) as error:
            raise ConfigurationError(str(error)) from error
        if self.max_delay < self.first_delay:
            raise ConfigurationError(f"max_delay ({self.max_delay}) must be at least first_delay ({self.first_delay})")
        if isinstance(self.factor, bool) or not isinstance(self.factor, int | float) or not self.factor >= 1:
            raise ConfigurationError(f"factor must be a number of at least 1, not {self.factor!r}")
        for kind in self.give_up_on:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise ConfigurationError(f"give_up_on must hold exception classes, not {kind!r}")

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
