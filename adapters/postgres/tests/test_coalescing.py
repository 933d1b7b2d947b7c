"""Calls that store at the same time share a statement, and nothing else."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from pannier.records import JobRecord, Payload
from pannier_postgres._coalescing import Coalescer
from pannier_postgres._rows import NewRow, from_job

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Server:
    """Takes what is flushed, as slowly as the test lets it."""

    def __init__(self) -> None:
        self.flushed: list[list[UUID]] = []
        self.tasks: list[asyncio.Task[object] | None] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def flush(self, rows: Sequence[NewRow]) -> None:
        """Take *rows*, then answer when it is open."""
        self.flushed.append([row.tracking_id for row in rows])
        self.tasks.append(asyncio.current_task())
        self.asked.set()
        await self.open.wait()

    async def was_asked(self) -> None:
        """Return when something is to be flushed."""
        async with asyncio.timeout(5):
            await self.asked.wait()


def row() -> NewRow:
    return from_job(
        JobRecord(
            tracking_id=uuid4(),
            queue_id="Work",
            command=Payload({}),
            execute_after=NOW,
            expire_on=NOW + timedelta(hours=4),
            created_at=NOW,
        )
    )


def test_a_call_alone_flushes_in_its_callers_own_task(runner: asyncio.Runner) -> None:
    """Nobody waits for a task of the coalescer's where one call is all there is."""

    async def steps() -> None:
        server = Server()
        await Coalescer(server.flush, seconds=5).add([row()])
        assert server.tasks == [asyncio.current_task()]

    runner.run(steps())


def test_calls_of_one_turn_share_one_flush_in_their_order(runner: asyncio.Runner) -> None:
    """The first caller waits for those that start in the same turn of the loop, and stays the first."""

    async def steps() -> None:
        server, rows = Server(), [row() for _ in range(3)]
        coalescer = Coalescer(server.flush, seconds=5)
        await asyncio.gather(*(coalescer.add([one]) for one in rows))
        assert server.flushed == [[one.tracking_id for one in rows]]

    runner.run(steps())


def test_who_comes_while_one_call_flushes_shares_the_next_flush(runner: asyncio.Runner) -> None:
    """What waits when a flush returns goes into the next one."""

    async def steps() -> None:
        server, rows = Server(), [row() for _ in range(3)]
        coalescer = Coalescer(server.flush, seconds=5)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([rows[0]]))
        await server.was_asked()
        others = [asyncio.create_task(coalescer.add([one])) for one in rows[1:]]
        await asyncio.sleep(0)
        server.open.set()
        await asyncio.gather(first, *others)
        assert server.flushed == [[rows[0].tracking_id], [one.tracking_id for one in rows[1:]]]

    runner.run(steps())


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_cancelling_the_first_caller_keeps_no_other_from_storing(runner: asyncio.Runner, turns: int) -> None:
    """Whenever a call that others wait behind is cancelled, they are stored and answered (R122)."""

    async def steps() -> None:
        server, rows = Server(), [row() for _ in range(3)]
        coalescer = Coalescer(server.flush, seconds=5)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([rows[0]]))
        others = [asyncio.create_task(coalescer.add([one])) for one in rows[1:]]
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        server.open.set()
        await asyncio.gather(*others)
        await coalescer.close()
        assert {one.tracking_id for one in rows[1:]} <= {stored for flush in server.flushed for stored in flush}

    runner.run(steps())


def test_a_call_cancelled_while_it_flushes_lets_the_next_one_go(runner: asyncio.Runner) -> None:
    """Who waits behind a call that goes alone does not wait for ever when that one is cancelled."""

    async def steps() -> None:
        server, rows = Server(), [row() for _ in range(2)]
        coalescer = Coalescer(server.flush, seconds=5)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([rows[0]]))
        await server.was_asked()
        second = asyncio.create_task(coalescer.add([rows[1]]))
        await asyncio.sleep(0)
        first.cancel()
        server.open.set()
        await second
        assert server.flushed == [[one.tracking_id] for one in rows]

    runner.run(steps())


def test_each_call_that_waits_too_long_times_out_by_itself(runner: asyncio.Runner) -> None:
    """One timer watches over all calls, and each has its own time."""

    async def steps() -> None:
        server, loop, ended = Server(), asyncio.get_running_loop(), list[float]()
        coalescer = Coalescer(server.flush, seconds=0.05)
        server.open.clear()
        first = asyncio.create_task(coalescer.add([row()]))
        await server.was_asked()

        async def late() -> None:
            started = loop.time()
            with pytest.raises(TimeoutError):
                await coalescer.add([row()])
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
        coalescer = Coalescer(server.flush, seconds=5)
        server.open.clear()
        call = asyncio.create_task(coalescer.add([row()]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(coalescer.close())
        await server.was_asked()
        await asyncio.sleep(0)
        assert not closing.done()
        server.open.set()
        await asyncio.gather(call, closing)

    runner.run(steps())
