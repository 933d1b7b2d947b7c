"""The storage's clock, carried on between two readings; and the ids that carry its time."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Thread
from uuid import UUID

from pannier.clock import HELD, StorageClock, SystemClock
from pannier.ids import TrackingIds

T0 = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """A storage's clock and a counter of seconds, both set by hand."""

    def __init__(self, *round_trips: float) -> None:
        self.instant: datetime | None = T0
        self.seconds = 100.0
        self.readings = 0
        self._round_trips = list(round_trips)

    async def read(self) -> datetime | None:
        """Take as long as the next round trip does; the instant is that of its middle."""
        self.readings += 1
        half = (self._round_trips.pop(0) if self._round_trips else 0.0) / 2
        self.pass_by(half)
        read = self.instant
        self.pass_by(half)
        return read

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        if self.instant is not None:
            self.instant += timedelta(seconds=seconds)


class Fixed:
    """A wall clock that stands still."""

    def now(self) -> datetime:
        return T0 - timedelta(days=1)


def clock_of(world: World) -> StorageClock:
    """Return a clock that has been read once."""
    clock = StorageClock(world.read, seconds=lambda: world.seconds, fallback=Fixed())
    asyncio.run(clock.synchronise())
    return clock


def test_it_goes_on_between_two_readings() -> None:
    """By the counter of seconds, which a suspension does not stop."""
    world = World()
    clock = clock_of(world)
    world.pass_by(7_200)
    assert clock.now() == T0 + timedelta(hours=2)


def test_without_a_clock_of_the_storage_the_wall_clock_decides() -> None:
    """All workers of such a storage share a host."""
    world = World()
    world.instant = None
    assert clock_of(world).now() == Fixed().now()
    assert world.readings == 1


def test_a_reading_counts_for_the_middle_of_its_round_trip() -> None:
    """Half of it went by before the storage looked, half after."""
    world = World(0.1)
    assert clock_of(world).now() == world.instant


def test_the_promptest_of_three_readings_counts() -> None:
    """One that took long may be wrong by half of that."""
    world = World(4.0, 0.5, 2.0)
    clock_of(world)
    assert world.readings == 3


def test_it_stands_still_rather_than_go_back_by_what_readings_are_inexact_by() -> None:
    """A reading that is a little behind the one before holds the clock until time has caught up."""
    world = World()
    clock = clock_of(world)
    before = clock.now()
    assert world.instant is not None
    world.instant -= HELD
    asyncio.run(clock.synchronise())
    assert clock.now() == before
    world.pass_by(3)
    assert clock.now() == before + timedelta(seconds=2)


def test_a_storage_clock_that_was_set_back_is_followed() -> None:
    """To whoever opens the storage later, what is due by a clock that stands still would lie an hour ahead."""
    world = World()
    clock = clock_of(world)
    clock.now()
    assert world.instant is not None
    world.instant -= timedelta(hours=1)
    asyncio.run(clock.synchronise())
    assert clock.now() == world.instant


def test_ids_are_of_version_7_and_carry_the_time() -> None:
    """RFC 9562: 48 bits of milliseconds first."""
    made = TrackingIds(Fixed(), Random(1)).new()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == int(Fixed().now().timestamp() * 1_000)


def test_each_id_is_greater_than_the_one_before() -> None:
    """Also of one instant, so that a batch stays in order (R25)."""
    ids = TrackingIds(Fixed(), Random(1))
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_made_together_are_ids_like_others_one_after_the_other() -> None:
    """A batch stays in order (R25), before what is made after it and after what was made before it."""
    ids = TrackingIds(Fixed(), Random(1))
    made = [ids.new(), *ids.many(5_000), ids.new(), *ids.many(1), *ids.many(0), ids.new()]
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}
    assert len({one.int & (1 << 62) - 1 for one in made}) == len(made) == 5_004


def test_ids_made_in_several_threads_are_distinct() -> None:
    """The counter is shared under a lock."""
    ids, made = TrackingIds(SystemClock(), Random(1)), list[UUID]()
    threads = [Thread(target=lambda: made.extend(ids.new() for _ in range(2_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000


def test_the_same_seed_and_clock_make_the_same_ids() -> None:
    """So that a run can be repeated exactly."""
    assert TrackingIds(Fixed(), Random(7)).new() == TrackingIds(Fixed(), Random(7)).new()
    assert TrackingIds(Fixed(), Random(7)).many(3) == TrackingIds(Fixed(), Random(7)).many(3)
