"""
Cancellation at every await: an operation is run again and again, cancelled at its first suspension, its second, ...

At each suspension there are two moments: while the task waits, and when what it waits for has answered but the task has
not run on yet; then the answer is lost though the work was done.
"""

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from enum import StrEnum
from typing import Generic, TypeVar

from attrs import frozen

T = TypeVar("T")


class Moment(StrEnum):
    """When the task is cancelled."""

    WAITING = "waiting"
    ANSWERED = "answered"


@frozen
class Cut(Generic[T]):
    """
    One run of the operation.

    Attributes:
        point: The suspension at which it was to be cancelled, from 0.
        moment: When, at that suspension.
        is_cancelled: Whether it ended with CancelledError. The last run of a moment ends before its point.
        answer: What it answered, if it did.
    """

    point: int
    moment: Moment
    is_cancelled: bool
    answer: T | None


async def cancel_everywhere(make: Callable[[], Awaitable[T]], *, at_most: int = 200) -> AsyncIterator[Cut[T]]:
    """
    Run *make()* once for each suspension point and moment, cancelled there; yield after each run.

    The operation is a new one each time: what it works on is for the caller to prepare between runs. Ends with a run
    that was not cancelled, or after *at_most* points.
    """
    for moment in Moment:
        for point in range(at_most):
            reached: list[int] = []
            task = asyncio.ensure_future(_driven(make(), point, moment, reached))
            await asyncio.wait({task})
            is_cancelled = task.cancelled()
            yield Cut(point, moment, is_cancelled, None if is_cancelled else task.result())
            if not reached:
                break


async def _driven(call: Awaitable[T], point: int, moment: Moment, reached: list[int]) -> T:
    return await _stepped(call, point, moment, reached)


@types.coroutine
def _stepped(call: Awaitable[T], point: int, moment: Moment, reached: list[int]) -> Generator[object, object, T]:
    inner = call.__await__()
    thrown: BaseException | None = None
    suspensions = 0
    while True:
        try:
            awaited = inner.send(None) if thrown is None else inner.throw(thrown)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        if suspensions == point:
            reached.append(point)
            _cancel_at(awaited, moment)
        suspensions += 1
        thrown = None
        try:
            yield awaited
        except BaseException as error:  # handed on to the call at once
            thrown = error


def _cancel_at(awaited: object, moment: Moment) -> None:
    task = asyncio.current_task()
    assert task is not None
    if moment is Moment.ANSWERED and isinstance(awaited, asyncio.Future):
        # Runs before the task's own wake-up, which is added to the future later: the race that asyncio really has.
        awaited.add_done_callback(lambda _: task.cancel() and None)
    else:
        task.cancel()
