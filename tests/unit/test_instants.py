"""Instants: UTC, microseconds, grids."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.instants import EPOCH, MICROSECOND, from_microseconds, round_down, round_up, to_microseconds, utc

AWARE = st.datetimes(timezones=st.just(UTC))
RESOLUTIONS = st.sampled_from([MICROSECOND, timedelta(microseconds=7), timedelta(milliseconds=1), timedelta(seconds=1)])
WELL_WITHIN = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # Hypothesis wants naive bounds


@given(AWARE)
def test_microseconds_are_exact(at: datetime) -> None:
    """R81: from the year 1 to 9999, before 1970 too."""
    assert from_microseconds(to_microseconds(at)) == at


@given(st.one_of(st.integers(0, 2**33 * 1_000_000), st.integers(2**32 * 1_000_000 - 9, 2**32 * 1_000_000 + 9)))
def test_microseconds_of_every_size_come_back(count: int) -> None:
    """R81: what is made by way of a float, up to 2106, and what is not."""
    at = from_microseconds(count)
    assert to_microseconds(at) == count
    assert at.tzinfo is UTC


@pytest.mark.parametrize(
    ("at", "count"),
    [
        (EPOCH, 0),
        (EPOCH - MICROSECOND, -1),
        (datetime(2000, 2, 29, tzinfo=UTC), 951_782_400_000_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999_999),
    ],
)
def test_microseconds_count_from_1970(at: datetime, count: int) -> None:
    """What other programs read in a storage, too."""
    assert to_microseconds(at) == count


@given(st.integers(-(23 * 60 + 59), 23 * 60 + 59), WELL_WITHIN)
def test_an_instant_of_any_zone_is_the_same_in_utc(minutes: int, at: datetime) -> None:
    """R79: what is meant stays, what is written is UTC."""
    converted = utc(at.astimezone(timezone(timedelta(minutes=minutes))), "at")
    assert converted == at
    assert converted.tzinfo is UTC


@pytest.mark.parametrize(
    ("at", "error", "complaint"),
    [
        (datetime(2030, 1, 1), ValueError, "when must be an aware datetime"),  # noqa: DTZ001  # the point
        ("2030-01-01", TypeError, "when must be a datetime, not str"),
        (None, TypeError, "when must be a datetime, not NoneType"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), ValueError, "outside the years 1 to 9999"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), ValueError, "outside the years 1 to 9999"),
    ],
)
def test_anything_else_is_refused_by_name(at: object, error: type[Exception], complaint: str) -> None:
    """R80: the message says which argument, and what to do."""
    with pytest.raises(error, match=complaint):
        utc(at, "when")


@given(WELL_WITHIN, RESOLUTIONS)
def test_rounding_never_makes_anything_early(at: datetime, resolution: timedelta) -> None:
    """R20: up is not before, down is not after, both lie on the grid and less than a step away."""
    up, down = round_up(at, resolution), round_down(at, resolution)
    assert down <= at <= up
    assert up - down in {timedelta(0), resolution}
    assert (up - EPOCH) % resolution == (down - EPOCH) % resolution == timedelta(0)


@given(WELL_WITHIN, RESOLUTIONS)
def test_rounding_twice_is_rounding_once(at: datetime, resolution: timedelta) -> None:
    """What lies on the grid stays."""
    assert round_up(round_up(at, resolution), resolution) == round_up(at, resolution)
    assert round_down(round_up(at, resolution), resolution) == round_up(at, resolution)


@given(WELL_WITHIN, RESOLUTIONS)
def test_instants_a_step_apart_stay_ordered(at: datetime, resolution: timedelta) -> None:
    """R20: no two of them become one."""
    assert round_up(at, resolution) < round_up(at + resolution, resolution)
    assert round_down(at, resolution) < round_down(at + resolution, resolution)


def test_the_last_instants_can_not_be_rounded_up() -> None:
    """There is no year 10000."""
    with pytest.raises(ValueError, match="within the year 9999"):
        round_up(datetime.max.replace(tzinfo=UTC), timedelta(milliseconds=1))
