"""Seeded races: the same seed gives the same order, different seeds different ones, and a lost update is found."""

import asyncio
from random import Random

import pytest

from pannier_testing.jitter import Overlap, Schedule


async def order_of(seed: int) -> list[str]:
    """Return the order in which the steps of three calls are taken under *seed*."""
    taken: list[str] = []

    async def steps(name: str) -> None:
        for _ in range(3):
            taken.append(name)
            await asyncio.sleep(0)

    await Schedule(Random(seed), Overlap()).jittered(steps("a"), steps("b"), steps("c"))
    return taken


async def test_a_seed_repeats_its_order() -> None:
    """The order of all steps depends on the seed alone."""
    assert await order_of(7) == await order_of(7)


async def test_seeds_differ() -> None:
    """Twenty seeds give many different orders of the same steps."""
    orders = {tuple(await order_of(seed)) for seed in range(20)}

    assert len(orders) > 15


async def test_a_lost_update_is_found_by_some_seed() -> None:
    """Two calls that read, wait and write overwrite each other under some seed."""
    counts = []
    for seed in range(20):
        count = 0

        async def add() -> None:
            nonlocal count
            seen = count
            await asyncio.sleep(0)
            count = seen + 1

        await Schedule(Random(seed), Overlap()).jittered(add(), add())
        counts.append(count)

    assert set(counts) == {1, 2}


async def test_answers_come_in_the_order_of_the_calls() -> None:
    """Whatever the order of the steps, the answers are those of the calls, in their order."""

    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    schedule = Schedule(Random(3), Overlap())

    assert await schedule.jittered(*(answer(number) for number in range(8))) == list(range(8))


async def test_an_error_is_raised_when_all_have_ended() -> None:
    """One call's error reaches the caller only after the other calls have ended."""
    ended = []

    async def fail() -> None:
        raise LookupError("no")

    async def go_on() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        ended.append(True)

    with pytest.raises(LookupError, match="no"):
        await Schedule(Random(0), Overlap()).jittered(fail(), go_on())

    assert ended == [True]


async def test_calls_that_never_suspend_have_nothing_to_overlap() -> None:
    """A call without a suspension is atomic on its loop: that no two overlap says nothing against the test."""
    overlap = Overlap()

    async def atomic() -> None:
        """Answer at once."""

    for seed in range(5):
        await Schedule(Random(seed), overlap).jittered(atomic(), atomic())

    assert (overlap.could_be, overlap.is_missing) == (False, False)


async def test_calls_that_never_met_are_told() -> None:
    """Calls that suspend but were never in flight together show that a race was not tried."""
    overlap = Overlap()

    await Schedule(Random(0), overlap).jittered(asyncio.sleep(0))

    assert overlap.is_missing
