"""
Races that are driven, not hoped for: coroutines are re-driven with random extra pauses, decided by a seed.

Plain `asyncio.gather` runs the same order every time. With pauses, another call can come in between any two steps.
"""

import asyncio
import random
import types
from collections.abc import Awaitable, Generator
from typing import Final, TypeVar

T = TypeVar("T")
U = TypeVar("U")

PAUSES: Final = (0, 0, 1, 1, 2, 3, 5)
"""How many turns a call may be held back before each of its steps."""


class Overlap:
    """
    Watches whether calls were in flight at the same time.

    A call that never suspends is atomic on its loop; where no call ever did, there was nothing to overlap.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.was_seen = False
        self.could_be = False

    @property
    def is_missing(self) -> bool:
        """Whether calls could have overlapped, and never did."""
        return self.could_be and not self.was_seen


class Schedule:
    """One seeded order of events; `Trial.schedules` makes them."""

    def __init__(self, rng: random.Random, overlap: Overlap) -> None:
        self.rng = rng
        self._overlap = overlap

    async def jittered(self, *calls: Awaitable[T]) -> list[T]:
        """
        Await all *calls* at the same time, each with random pauses between its steps; return the answers in order.

        An error of one is raised once all have ended. Wrap a call in `check.answers` where the rule forbids errors.
        """
        tasks = [asyncio.ensure_future(self._paused(call)) for call in calls]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def raced(self, first: Awaitable[T], second: Awaitable[U]) -> tuple[T, U]:
        """Await both at the same time, either of them started first; return both answers. See `jittered`."""
        firsts: list[T] = []
        seconds: list[U] = []

        async def run_first() -> None:
            firsts.append(await first)

        async def run_second() -> None:
            seconds.append(await second)

        calls = [run_first(), run_second()]
        self.rng.shuffle(calls)
        await self.jittered(*calls)
        return firsts[0], seconds[0]

    async def _paused(self, call: Awaitable[T]) -> T:
        return await _redrive(call, self.rng, self._overlap)


@types.coroutine
def _redrive(call: Awaitable[T], rng: random.Random, overlap: Overlap) -> Generator[object, object, T]:
    inner = call.__await__()
    pauses = rng.choice(PAUSES)
    thrown = yield from _pause(pauses)
    overlap.in_flight += 1
    try:
        while True:
            overlap.was_seen |= overlap.in_flight > 1
            try:
                awaited = inner.send(None) if thrown is None else inner.throw(thrown)
            except StopIteration as stop:
                answer: T = stop.value
                return answer
            overlap.could_be = True
            thrown = yield from _forward(awaited)
            if thrown is None:
                thrown = yield from _pause(rng.choice(PAUSES))
    finally:
        overlap.in_flight -= 1


def _pause(turns: int) -> Generator[object, object, BaseException | None]:
    for _ in range(turns):
        thrown = yield from _forward(None)
        if thrown is not None:
            return thrown
    return None


def _forward(awaited: object) -> Generator[object, object, BaseException | None]:
    """Wait as the call would, and return what was thrown meanwhile, a cancellation for instance."""
    try:
        yield awaited
    except BaseException as error:  # handed on to the call at once
        return error
    return None
