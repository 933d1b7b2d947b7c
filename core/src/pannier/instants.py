"""
Instants in time: aware UTC datetimes with microseconds, as integers, and rounded to a storage's resolution.

Rounding never makes anything happen early: `round_up` for what must not start before, `round_down` for what must not
outlive (contract-wide rule "never early", R20, R81).
"""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

_EXACT_IN_FLOATS: Final = 2**32 * 1_000_000
_from_timestamp: Final = datetime.fromtimestamp


def utc(at: object, name: str) -> datetime:
    """
    Return the aware instant *at* in UTC.

    Raises:
        TypeError: *at* is no datetime; the message calls it *name*.
        ValueError: *at* is naive (R80).
    """
    if not isinstance(at, datetime):
        raise TypeError(f"{name} must be a datetime, not {type(at).__name__}")
    if at.utcoffset() is None:
        raise ValueError(
            f"{name} must be an aware datetime, {at.isoformat()} has no time zone; add tzinfo, e.g. datetime.UTC"
        )
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} {at.isoformat()} lies outside the years 1 to 9999 in UTC") from None


def to_microseconds(at: datetime) -> int:
    """Return the microseconds from 1970 to the aware instant *at*, exactly. Negative before 1970."""
    passed = at - EPOCH  # integers throughout: timestamp() is a float and loses microseconds
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def from_microseconds(microseconds: int) -> datetime:
    """
    Return the UTC instant that lies *microseconds* after 1970, exactly.

    0.17 us in this century, by way of a float, and 0.32 else: every row has four. Two neighbouring floats lie half a
    microsecond apart at most up to 2106, so that rounding finds the right one.
    """
    if 0 <= microseconds < _EXACT_IN_FLOATS:
        return _from_timestamp(microseconds / 1_000_000, UTC)
    return EPOCH + timedelta(0, 0, microseconds)  # by position: a third quicker


def round_down(at: datetime, resolution: timedelta) -> datetime:
    """Return the latest instant on the grid of *resolution* (counted from 1970) that is not after *at*."""
    if resolution <= MICROSECOND:
        return at
    return at - (at - EPOCH) % resolution


def round_up(at: datetime, resolution: timedelta) -> datetime:
    """
    Return the earliest instant on the grid of *resolution* that is not before *at*.

    Raises:
        ValueError: There is none before the year 10000.
    """
    below = round_down(at, resolution)
    if below == at:
        return at
    try:
        return below + resolution
    except OverflowError:
        raise ValueError(f"{at.isoformat()} can't be rounded up to {resolution} within the year 9999") from None
