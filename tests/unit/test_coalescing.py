"""Calls that store at the same time share a statement, and nothing else."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from pannier.coalescing import Coalescer
from pannier.errors import StorageRefusedError, StorageUnavailableError


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


class Server:
    """Takes what is flushed, as slowly as the test lets it."""

    def __init__(self) -> None:
        self.flushed: list[list[int]] = []
        self.tasks: list[asyncio.Task[object] | None] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def flush(self, items: Sequence[int]) -> None:
        """Take *items*, then answer when it is open."""
        self.flushed.append(list(items))
        self.tasks.append(asyncio.current_task())
        self.asked.set()
        await self.open.wait()

    async def was_asked(self) -> None:
        """Return when something is to be flushed."""
        async with asyncio.timeout(5):
            await self.asked.wait()


def coalescer_for(server: Server, *, seconds: float = 5) -> Coalescer[int]:
    return Coalescer(server.flush, seconds=seconds, share=lambda _: 0.25)


def test_a_call_alone_flushes_in_its_callers_own_task(runner: asyncio.Runner) -> None:
    """Nobody waits for a task of the coalescer's where one call is all there is."""

    async def steps() -> None:
        server = Server()
        await coalescer_for(server).add([1])
        assert server.tasks == [asyncio.current_task()]

    runner.run(steps())


def test_calls_of_one_turn_share_one_flush_in_their_order(runner: asyncio.Runner) -> None:
    """The first caller waits for those that start in the same turn of the loop, and stays the first."""

    async def steps() -> None:
        server = Server()
        coalescer = coalescer_for(server)
        await asyncio.gather(*(coalescer.add([one]) for one in range(3)))
        assert server.flushed == [[0, 1, 2]]

    runner.run(steps())


def test_who_comes_while_one_call_flushes_shares_the_next_flush(runner: asyncio.Runner) -> None:
    """What waits when a flush returns goes into the next one."""

    async def steps() -> None:
        server = Server()
        coalescer = coalescer_for(server)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([0]))
        await server.was_asked()
        others = [asyncio.create_task(coalescer.add([one])) for one in (1, 2)]
        await asyncio.sleep(0)
        server.open.set()
        await asyncio.gather(first, *others)
        assert server.flushed == [[0], [1, 2]]

    runner.run(steps())


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_cancelling_the_first_caller_keeps_no_other_from_storing(runner: asyncio.Runner, turns: int) -> None:
    """Whenever a call that others wait behind is cancelled, they are stored and answered (R122)."""

    async def steps() -> None:
        server = Server()
        coalescer = coalescer_for(server)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([0]))
        others = [asyncio.create_task(coalescer.add([one])) for one in (1, 2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        server.open.set()
        await asyncio.gather(*others)
        await coalescer.close()
        assert {1, 2} <= {stored for flush in server.flushed for stored in flush}

    runner.run(steps())


def test_a_call_cancelled_while_it_flushes_lets_the_next_one_go(runner: asyncio.Runner) -> None:
    """Who waits behind a call that goes alone does not wait for ever when that one is cancelled."""

    async def steps() -> None:
        server = Server()
        coalescer = coalescer_for(server)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([0]))
        await server.was_asked()
        second = asyncio.create_task(coalescer.add([1]))
        await asyncio.sleep(0)
        first.cancel()
        server.open.set()
        await second
        assert server.flushed == [[0], [1]]

    runner.run(steps())


def test_each_call_that_waits_too_long_times_out_by_itself(runner: asyncio.Runner) -> None:
    """One timer watches over all calls, and each has its own time."""

    async def steps() -> None:
        server, loop, ended = Server(), asyncio.get_running_loop(), list[float]()
        coalescer = coalescer_for(server, seconds=0.05)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([1]))
        await server.was_asked()

        async def late() -> None:
            started = loop.time()
            with pytest.raises(TimeoutError):
                await coalescer.add([1])
            ended.append(loop.time() - started)

        second = asyncio.create_task(late())
        await asyncio.sleep(0.02)  # so that the timer, set for the second call, comes too soon for the third
        third = asyncio.create_task(late())
        async with asyncio.timeout(5):
            await asyncio.gather(second, third)
        assert min(ended) >= 0.05
        server.open.set()
        await first
        await coalescer.close()
        assert len(server.flushed) == 1

    runner.run(steps())


def test_closing_waits_for_a_call_that_goes_alone(runner: asyncio.Runner) -> None:
    """What has begun is stored before the connections are closed."""

    async def steps() -> None:
        server = Server()
        coalescer = coalescer_for(server)
        server.open.clear()
        call = asyncio.create_task(coalescer.add([1]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(coalescer.close())
        await server.was_asked()
        await asyncio.sleep(0)
        assert not closing.done()
        server.open.set()
        await asyncio.gather(call, closing)

    runner.run(steps())


def test_a_flush_holds_what_its_room_holds(runner: asyncio.Runner) -> None:
    """Calls share a flush until their jobs fill it, and one that fills more than that goes by itself."""

    async def steps() -> None:
        server = Server()
        coalescer = coalescer_for(server)
        await asyncio.gather(*(coalescer.add([one]) for one in range(3)), coalescer.add([3, 4]), coalescer.add([5] * 9))
        assert server.flushed == [[0, 1, 2], [3, 4], [5] * 9]

    runner.run(steps())


def test_one_call_s_error_is_not_another_s(runner: asyncio.Runner) -> None:
    """What was stored together and is refused is stored apart, and only the culprit's caller hears of it (R122)."""

    async def steps() -> None:
        stored = list[int]()

        async def flush(items: Sequence[int]) -> None:
            if 1 in items:
                raise StorageRefusedError("1 is refused")
            stored.extend(items)

        coalescer = Coalescer(flush, seconds=5, share=lambda _: 0.25)
        answers = await asyncio.gather(*(coalescer.add([one]) for one in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), StorageRefusedError, type(None)]
        assert stored == [0, 2]

    runner.run(steps())


def test_an_outage_is_an_error_of_each_call_s_own(runner: asyncio.Runner) -> None:
    """Raised in many places, one error would gather all of their tracebacks."""

    async def steps() -> None:
        async def flush(_: Sequence[int]) -> None:
            raise StorageUnavailableError("nobody is there")

        coalescer = Coalescer(flush, seconds=5, share=lambda _: 0.25)
        answers = await asyncio.gather(*(coalescer.add([one]) for one in range(3)), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["nobody is there"] * 3
        assert len({id(answer) for answer in answers}) == 3

    runner.run(steps())
