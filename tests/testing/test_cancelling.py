"""Cancelling at every suspension: each point, at both moments, once."""

import asyncio

from pannier_testing.cancelling import Cut, Moment, cancel_everywhere


async def cuts_of(function: "Operation") -> list[Cut[str]]:
    """Return what became of each run of *function*."""
    return [cut async for cut in cancel_everywhere(function)]


class Operation:
    """An operation with three suspensions: of a turn, of a thread's work, and of a task's."""

    def __init__(self) -> None:
        self.worked: list[str] = []

    async def __call__(self) -> str:
        self.worked = []
        await asyncio.sleep(0)
        await asyncio.to_thread(str)
        await asyncio.ensure_future(self.work())
        return "done"

    async def work(self) -> None:
        self.worked.append("worked")


async def test_each_suspension_is_cancelled_once_a_moment() -> None:
    """Three suspensions give three cancelled runs and a whole one, for each of the two moments."""
    cuts = await cuts_of(Operation())

    assert [(cut.moment, cut.point, cut.is_cancelled, cut.answer) for cut in cuts] == [
        (moment, point, is_cancelled, answer)
        for moment in Moment
        for point, is_cancelled, answer in ((0, True, None), (1, True, None), (2, True, None), (3, False, "done"))
    ]


async def test_an_answer_can_be_lost_though_the_work_is_done() -> None:
    """Cancelled while it waits, the work at the third point is not done; at the moment of its answer, it is."""
    operation = Operation()

    seen = {(cut.moment, cut.point): operation.worked async for cut in cancel_everywhere(operation)}

    assert (seen[Moment.WAITING, 2], seen[Moment.ANSWERED, 2]) == ([], ["worked"])


async def test_an_operation_that_swallows_its_cancellation_answers() -> None:
    """What goes on after a cancellation is seen as an answer, and its end is awaited."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    first = await anext(aiter(cancel_everywhere(stubborn)))

    assert (first.is_cancelled, first.answer) == (False, "swallowed")
