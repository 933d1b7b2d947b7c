"""Solitude by itself, on a clock that is moved by hand (E14)."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import frozen

from pannier import Command, HandlerRegistry, QueueOptions
from pannier.worker.lanes import Lane
from pannier.worker.solitude import FIRST_WAIT, TURN, Solitude

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)


@frozen
class Work(Command[None]):
    """A command."""


@pytest.fixture
def lane() -> Lane:
    """A lane whose last chances want a turn."""
    registry = HandlerRegistry()

    @registry.handler()
    async def work(_: Work) -> None:
        return None

    [registration] = registry
    return Lane(registration, QueueOptions())


def test_a_wait_in_vain_lets_the_lane_rest_and_doubles_up_to_a_lease(lane: Lane) -> None:
    """Each time the worker claims nothing for so long, and then nothing of the lane for as long."""
    solitude, now = Solitude(lease_for=LEASE), NOW
    waits = list[timedelta]()
    for _ in range(7):
        solitude.want(lane, now=now)
        assert solitude.deadline is not None
        waits.append(solitude.deadline - now)
        now = solitude.deadline
        solitude.tend(now)
        assert not solitude.is_wanted
        assert lane.rests_until - now == waits[-1]
    assert waits == [min(FIRST_WAIT * 2**times, LEASE) for times in range(7)]


def test_a_turn_ends_in_time_though_there_may_be_more(lane: Lane) -> None:
    """Then everything else is claimed, and the lane need not rest."""
    solitude = Solitude(lease_for=LEASE)
    solitude.want(lane, now=NOW)
    assert solitude.next_lane(now=NOW) is lane
    solitude.want(lane, now=NOW)
    wanted = list[bool]()
    for later in (TURN / 2, TURN):
        solitude.tend(NOW + later)
        wanted.append(solitude.is_wanted)
    assert wanted == [True, False]
    assert lane.rests_until < NOW


def test_a_turn_that_finds_nothing_is_over(lane: Lane) -> None:
    """Somebody else had the job."""
    solitude = Solitude(lease_for=LEASE)
    solitude.want(lane, now=NOW)
    solitude.next_lane(now=NOW)
    solitude.tend(NOW)
    assert not solitude.is_turn


def test_a_clock_that_is_set_back_prolongs_neither_wait_nor_rest(lane: Lane) -> None:
    """Both are a lease at most, so more is left only where the clock was set back."""
    earlier = NOW - timedelta(hours=1)
    solitude = Solitude(lease_for=LEASE)
    solitude.want(lane, now=NOW)
    solitude.tend(earlier)
    assert not solitude.is_wanted
    lane.rests_until = NOW
    solitude.tend(earlier)
    assert lane.rests_until == earlier
