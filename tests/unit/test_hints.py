"""Hints and sessions: what is told to whom, and what is let go again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

import pytest

from pannier import JobQueues
from pannier.environment import Environment
from pannier.errors import StorageUnavailableError, UsageError
from pannier.hints import MISSED, Hints
from pannier.notices import Notice, NoticeKind
from pannier.session import Session
from tests.engine.troubled import Fault, TroubledStorage

ID, OTHER = UUID(int=7), UUID(int=8)
QUEUES = frozenset({"mail"})


@pytest.fixture
def hints() -> Hints:
    """Hints of a session."""
    return Hints(random=Random(1))


def test_every_subscriber_gets_every_notice(hints: Hints) -> None:
    """Until it does not want them any more."""
    first, second = list[Notice](), list[Notice]()
    hints.subscribe(first.append)
    hints.subscribe(second.append)
    notice = Notice(NoticeKind.QUEUED, "mail", ID)
    hints.pass_on(notice)
    hints.unsubscribe(first.append)
    hints.unsubscribe(first.append)
    hints.pass_on(MISSED)
    assert first == [notice]
    assert second == [notice, MISSED]


@pytest.mark.parametrize(
    ("notice", "told"),
    [
        (Notice(NoticeKind.FINISHED, "mail", ID), 1),
        (Notice(NoticeKind.CANCELLED, "mail", ID), 1),
        (Notice(NoticeKind.MISSED, "*"), 1),
        (Notice(NoticeKind.FINISHED, "mail", OTHER), 0),
        (Notice(NoticeKind.QUEUED, "mail", ID), 0),
        (Notice(NoticeKind.FINISHED, "mail"), 0),
    ],
)
def test_who_watches_a_job_is_told_of_its_end(hints: Hints, notice: Notice, told: int) -> None:
    """Also where something was missed; of no other job, and not that it was queued."""
    calls: list[int] = []
    hints.watch(ID, lambda: calls.append(1))
    hints.pass_on(notice)
    assert len(calls) == told


def test_a_watcher_may_leave_while_it_is_told(hints: Hints) -> None:
    """The others are told all the same, and nobody is told twice."""
    calls: list[str] = []

    def once() -> None:
        calls.append("once")
        hints.unwatch(ID, once)

    hints.watch(ID, once)
    hints.watch(ID, lambda: calls.append("always"))
    hints.finished([ID])
    hints.finished([ID])
    assert calls == ["once", "always", "always"]


class Channel:
    """A notifier whose notices the test sends, and whose listeners it counts."""

    def __init__(self) -> None:
        self.listened: list[frozenset[str]] = []
        self.standing = 0
        self.notices: asyncio.Queue[Notice | Exception] = asyncio.Queue()

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        self.listened.append(queue_ids)
        self.standing += 1
        try:
            yield self._sent()
        finally:
            self.standing -= 1

    async def _sent(self) -> AsyncIterator[Notice]:
        while True:
            sent = await self.notices.get()
            if isinstance(sent, Exception):
                raise sent
            yield sent


async def told(hints: Hints) -> "asyncio.Queue[Notice]":
    """Return a queue of what subscribers are told."""
    notices: asyncio.Queue[Notice] = asyncio.Queue()
    hints.subscribe(notices.put_nowait)
    return notices


def test_a_new_listener_begins_with_missed(hints: Hints) -> None:
    """Whatever happened before the subscription stood has been missed; then its notices are passed on."""

    async def main() -> None:
        channel, notices = Channel(), await told(hints)
        hints.listen(channel, QUEUES)
        assert await notices.get() is MISSED
        notice = Notice(NoticeKind.QUEUED, "mail")
        channel.notices.put_nowait(notice)
        assert await notices.get() is notice
        await hints.stop()
        assert channel.standing == 0

    run(main)


def test_an_interrupted_listener_is_set_up_again(hints: Hints, caplog: pytest.LogCaptureFixture) -> None:
    """R113: it is logged, and the new one begins with MISSED."""

    async def main() -> None:
        channel, notices = Channel(), await told(hints)
        hints.listen(channel, QUEUES)
        await notices.get()
        channel.notices.put_nowait(StorageUnavailableError("the line is cut"))
        assert await notices.get() is MISSED
        assert len(channel.listened) == 2
        await hints.stop()

    run(main)
    assert "push notices are interrupted, polling until they are back: the line is cut" in caplog.text


def test_more_queues_make_a_wider_listener_and_the_same_ones_none(hints: Hints) -> None:
    """Queues may be registered later; the old listener goes."""

    async def main() -> None:
        channel, notices = Channel(), await told(hints)
        hints.listen(channel, QUEUES)
        await notices.get()
        hints.listen(channel, QUEUES)
        hints.listen(channel, frozenset({"post"}))
        await notices.get()
        assert channel.listened == [QUEUES, frozenset({"mail", "post"})]
        assert channel.standing == 1
        await hints.stop()

    run(main)


@pytest.mark.parametrize("verb", ["open", "read_clock"])
def test_a_session_that_can_not_begin_leaves_nothing_open(verb: str) -> None:
    """The storage is closed again, and the next try may pass."""
    storage = Counting()
    storage.faults[verb] = Fault(1)
    jobs = JobQueues(storage)

    async def main() -> None:
        with pytest.raises(StorageUnavailableError):
            await jobs.__aenter__()
        assert (storage.closed, jobs.is_open) == (1, False)
        async with jobs:
            assert jobs.is_open

    run(main)
    assert storage.closed == 2


class Counting(TroubledStorage):
    """Counts how often it was closed, and has faults where it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Fault] = {}
        self.closed = 0
        self.before["read_clock"] = lambda: self._meet("read_clock")

    async def open(self) -> None:
        await self._meet("open")
        await super().open()

    async def close(self) -> None:
        self.closed += 1
        await super().close()

    async def _meet(self, verb: str) -> None:
        if verb in self.faults:
            await self.faults[verb]()


def test_a_session_has_the_add_ons_that_its_storage_offers() -> None:
    """What is withheld is None, whatever the type has."""
    storage = TroubledStorage()
    storage.pushes = False

    async def main() -> None:
        session = await Session.open(storage, Environment())
        assert session.results is not None
        assert session.inspector is not None
        assert session.notifier is None
        session.listen(QUEUES)  # nothing to listen to, and no error
        await session.close()

    run(main)


def test_closing_leaves_no_task_behind() -> None:
    """Neither the reader of the clock nor a listener."""

    async def main() -> None:
        async with JobQueues("memory://") as jobs:
            jobs.session.listen(QUEUES)
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_what_is_not_open_says_how_to_open_it() -> None:
    """Before, and after."""
    jobs = JobQueues("memory://")
    with pytest.raises(UsageError, match="use 'async with jobs:'"):
        _ = jobs.session


def run(main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run *main* with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())
