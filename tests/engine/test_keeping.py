"""Where the keeper runs: its thread starts, ends and dies together with the worker that it keeps leases for."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, cast
from uuid import UUID

import pytest

from pannier.errors import StorageUnavailableError
from pannier.records import Lease
from pannier.threads import SystemThreads
from pannier.worker.keeping import ThreadKeeping
from tests.engine.conftest import play, until

if TYPE_CHECKING:
    from pannier.storage import JobStorageProvider
    from pannier.worker.keeper import Keeper

LEASE = Lease(UUID(int=1), 1)


class Storage:
    """Opens and closes, as slowly or badly as it is told to."""

    def __init__(self) -> None:
        self.opening: Callable[[], Coroutine[object, object, None]] = _at_once
        self.is_closed = False

    async def open(self) -> None:
        await self.opening()

    async def close(self) -> None:
        self.is_closed = True


class Watch:
    """A keeper that only notes what it is asked to check, and dies of what it is told to."""

    def __init__(self) -> None:
        self.checked: list[Lease] = []
        self.fault: BaseException | None = None
        self.runs = threading.Event()
        self.thread: threading.Thread | None = None

    async def run(self) -> None:
        self.thread = threading.current_thread()
        self.runs.set()
        while self.fault is None:  # noqa: ASYNC110  # it is set by another thread
            await asyncio.sleep(0.005)
        raise self.fault

    def check(self, leases: tuple[Lease, ...]) -> None:
        self.checked += leases


class Late(SystemThreads):
    """Threads that begin only when they are let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def start(self, run: Callable[[], None], *, name: str) -> None:
        def wait_and_run() -> None:
            self.gate.wait(10)
            run()

        super().start(wait_and_run, name=name)


@pytest.fixture
def storage() -> Storage:
    """The keeper's own storage."""
    return Storage()


@pytest.fixture
def watch() -> Watch:
    """The keeper."""
    return Watch()


def keeping_of(storage: Storage, watch: Watch, threads: SystemThreads | None = None) -> ThreadKeeping:
    """Make what is tested. Needs a running loop."""
    return ThreadKeeping(
        create_storage=lambda: cast("JobStorageProvider", storage),
        make_keeper=lambda _: cast("Keeper", watch),
        threads=threads or SystemThreads(),
    )


def test_the_keeper_runs_in_a_thread_until_it_is_cancelled(storage: Storage, watch: Watch) -> None:
    """It checks what it is asked to; at the end its storage is closed, and checking does nothing any more."""

    async def main() -> None:
        keeping = keeping_of(storage, watch)
        keeping.check([LEASE])  # before there is anybody to ask
        await keeping.start()
        running = asyncio.create_task(keeping.run())
        await asyncio.sleep(0)  # one that is cancelled before its first step can't clean up
        await until(watch.runs.is_set)
        keeping.check([LEASE])
        await until(lambda: watch.checked)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        keeping.check([LEASE])

    play(main)
    assert watch.checked == [LEASE]
    assert storage.is_closed
    assert watch.thread is not None
    assert watch.thread is not threading.main_thread()


def test_a_storage_that_cannot_be_opened_is_told_by_the_start(storage: Storage, watch: Watch) -> None:
    """And is closed all the same; nothing runs."""

    async def fail() -> None:
        raise StorageUnavailableError("it is down")

    storage.opening = fail

    async def main() -> None:
        keeping = keeping_of(storage, watch)
        with pytest.raises(StorageUnavailableError, match="it is down"):
            await keeping.start()
        await keeping.run()  # which has ended already

    play(main)
    assert storage.is_closed
    assert not watch.runs.is_set()


def test_what_the_keeper_dies_of_is_raised(storage: Storage, watch: Watch) -> None:
    """A worker must not go on without anybody who renews its leases."""

    async def main() -> None:
        keeping = keeping_of(storage, watch)
        await keeping.start()
        watch.fault = ZeroDivisionError("a fault of ours")
        with pytest.raises(ZeroDivisionError, match="a fault of ours"):
            await keeping.run()
        keeping.check([LEASE])

    play(main)
    assert storage.is_closed


def test_a_start_that_is_cancelled_while_the_storage_opens_leaves_no_thread(storage: Storage, watch: Watch) -> None:
    """The opening is cancelled, and its end is waited for."""
    began = threading.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    storage.opening = hang

    async def main() -> None:
        starting = asyncio.create_task(keeping_of(storage, watch).start())
        await until(began.is_set)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert storage.is_closed

    play(main)
    assert not watch.runs.is_set()


def test_a_start_that_is_cancelled_before_its_thread_runs_opens_nothing(storage: Storage, watch: Watch) -> None:
    """A thread that comes late finds that nobody waits for it."""
    threads, opened = Late(), threading.Event()

    async def note() -> None:
        opened.set()

    storage.opening = note

    async def main() -> None:
        starting = asyncio.create_task(keeping_of(storage, watch, threads).start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        threads.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await starting

    play(main)
    assert not opened.is_set()
    assert not watch.runs.is_set()


def test_a_keeper_that_dies_after_the_workers_loop_is_closed_hurts_nobody(
    storage: Storage, watch: Watch, recwarn: pytest.WarningsRecorder
) -> None:
    """There is nobody to tell, and nothing is raised in its thread."""

    async def main() -> None:
        await keeping_of(storage, watch).start()
        await until(watch.runs.is_set)

    play(main)
    watch.fault = ZeroDivisionError()
    assert watch.thread is not None
    watch.thread.join(10)

    assert storage.is_closed
    assert [str(warning.message) for warning in recwarn] == []


async def _at_once() -> None:
    """Open."""
