"""The threads that own a connection each: a writer that shares transactions out, and a reader."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Generic, TypeVar

from pannier_sqlite._errors import is_contention

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]

GROUP: Final = 256
"""How many calls share a transaction at most."""


class Call(Generic[T]):
    """One call that awaits its turn; answered on the loop that made it."""

    __slots__ = ("answer", "error", "future", "loop", "work")

    def __init__(self, work: Work[T], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.answer: T | None = None
        self.error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do the work and keep what came of it."""
        self.answer = self.error = None
        try:
            self.answer = self.work(connection)
        except BaseException as error:  # handed to whoever awaits the call
            self.error = error

    def settle(self) -> None:
        """Answer. Call on the loop. A call whose awaiter was cancelled has happened all the same."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)  # type: ignore[arg-type]  # run has set it


class ConnectionThread:
    """A daemon thread with a connection. `call` runs work there; calls that wait are taken together."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        run: Callable[[sqlite3.Connection, Sequence[Call[object]]], None],
        *,
        name: str,
    ) -> None:
        self._connect = connect
        self._run = run
        self._calls: SimpleQueue[Call[object] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()

    async def start(self) -> None:
        """Start the thread; returns once its connection is open. Raises what opening it raises."""
        self._thread.start()
        await asyncio.shield(self._opened)

    async def call(self, work: Work[T]) -> T:
        """Run *work* in the thread."""
        call = Call(work, self._loop)
        self._calls.put(call)  # type: ignore[arg-type]  # answers are not mixed up
        return await call.future

    async def stop(self) -> None:
        """End the thread, after the calls before this one, and close its connection."""
        self._calls.put(None)
        if self._thread.is_alive():
            await asyncio.shield(asyncio.to_thread(self._thread.join))

    def _serve(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # handed to whoever started the thread
            self._post(_set_exception, self._opened, error)
            return
        self._post(_set_result, self._opened)
        try:
            while True:
                first = self._calls.get()
                calls, is_last = self._take(first)
                if calls:
                    self._run(connection, calls)
                    self._post(_settle_all, calls)
                if is_last:
                    return
        finally:
            connection.close()

    def _take(self, first: Call[object] | None) -> tuple[list[Call[object]], bool]:
        """Return *first* and whatever waits behind it, and whether the thread is to end."""
        calls: list[Call[object]] = []
        call = first
        while call is not None:
            calls.append(call)
            if len(calls) == GROUP:
                return calls, False
            try:
                call = self._calls.get_nowait()
            except Empty:
                return calls, False
        return calls, True

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody is left to hear
            self._loop.call_soon_threadsafe(callback, *arguments)


def run_each(connection: sqlite3.Connection, calls: Sequence[Call[object]]) -> None:
    """Run each call for itself: reads."""
    for call in calls:
        call.run(connection)


class GroupCommit:
    """Runs all calls that wait in one transaction, so that they share the one wait for the disk (R122)."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds

    def __call__(self, connection: sqlite3.Connection, calls: Sequence[Call[object]]) -> None:
        """Run *calls*, each in a savepoint: one's error undoes that one alone."""
        try:
            begin(connection, self._timeout)
            for call in calls:
                _run_in_savepoint(connection, call)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            if len(calls) > 1:  # perhaps one of them alone is the reason: a full disk and a large batch
                for call in calls:
                    self(connection, [call])
            elif calls[0].error is None:
                calls[0].error = error


def begin(connection: sqlite3.Connection, timeout_seconds: float) -> None:
    """
    Begin a transaction that holds the write lock.

    Tries again with jitter instead of leaving it to SQLite's busy handler, which lets late comers overtake for long.

    Raises:
        sqlite3.OperationalError: Another program has held the lock for the whole timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = 0.0005
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_contention(error) or time.monotonic() >= deadline:
                raise
            time.sleep(pause * (0.5 + random.random()))
            pause = min(0.01, pause * 1.5)
        else:
            return


def _run_in_savepoint(connection: sqlite3.Connection, call: Call[object]) -> None:
    connection.execute("SAVEPOINT call")
    call.run(connection)
    if call.error is not None:
        # A full disk may have rolled everything back; then this raises, and each call is tried for itself.
        connection.execute("ROLLBACK TO call")
    connection.execute("RELEASE call")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _settle_all(calls: Sequence[Call[object]]) -> None:
    for call in calls:
        call.settle()


def _set_result(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _set_exception(future: "asyncio.Future[None]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
