"""The threads that own a connection each, so that the event loop never waits for a disk or a lock."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from enum import Enum
from queue import SimpleQueue
from threading import Thread
from typing import Final, Generic, TypeAlias, TypeVar

Found = TypeVar("Found")
T = TypeVar("T")

Work: TypeAlias = Callable[[sqlite3.Connection], Found]
"""What is done on the connection. May be done again from the start, after a rollback."""

GROUP: Final = 1_000
"""How many calls are taken together at most."""


class Kind(Enum):
    """Whether a call needs the write lock."""

    READ = "read"
    WRITE = "write"


class Call(Generic[Found, T]):
    """
    One call that awaits its turn in a thread: bound before the transaction, done in it, answered after it.

    Attributes:
        kind: Whether it needs the write lock.
        deadline: How long it may wait for others, by `time.monotonic`.
        error: Why it failed, if it did.
    """

    __slots__ = ("_answer", "_bind", "_finish", "_found", "_work", "deadline", "error", "future", "kind")

    def __init__(
        self,
        kind: Kind,
        bind: Callable[[], Work[Found]],
        finish: Callable[[Found], T],
        *,
        deadline: float,
        future: "asyncio.Future[T]",
    ) -> None:
        self.kind = kind
        self.deadline = deadline
        self.future = future
        self.error: BaseException | None = None
        self._bind = bind
        self._finish = finish

    def prepare(self) -> bool:
        """Check and encode the arguments. Return whether there is something to do."""
        if self.future.cancelled():
            return False
        try:
            self._work = self._bind()
        except BaseException as error:  # handed to whoever awaits the call
            self.error = error
            return False
        return True

    def run(self, connection: sqlite3.Connection) -> None:
        """Do the work. Raises what it raises."""
        self._found = self._work(connection)

    def conclude(self) -> None:
        """Turn what was found into the answer. The rows go now: the collector need not look at them any more."""
        try:
            self._answer = self._finish(self._found)
        except BaseException as error:  # handed to whoever awaits the call
            self.error = error
        del self._found, self._work

    def settle(self) -> None:
        """Answer, on the loop. What a cancelled awaiter asked for has happened all the same."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self._answer)


AnyCall: TypeAlias = Call[object, object]

Connect: TypeAlias = Callable[[], AbstractContextManager[sqlite3.Connection]]


class ConnectionThread:
    """
    A thread with a connection of its own. It takes all calls that wait, in the order started, and answers them as one.

    It is a daemon: a program that forgets to close a storage ends all the same, and what was acknowledged stays.
    """

    def __init__(
        self,
        connect: Connect,
        run: Callable[[sqlite3.Connection, Sequence[AnyCall]], None],
        *,
        name: str,
        timeout_seconds: float,
    ) -> None:
        self._run = run
        self._timeout_seconds = timeout_seconds
        self._gathered: list[AnyCall] = []
        self._calls: SimpleQueue[AnyCall | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = Thread(target=self._serve, args=(connect,), name=name, daemon=True)

    async def start(self) -> None:
        """Start the thread; returns once its connection is open. Raises what opening it raises."""
        self._thread.start()
        await asyncio.shield(self._opened)

    async def call(self, kind: Kind, bind: Callable[[], Work[Found]], finish: Callable[[Found], T]) -> T:
        """Bind, do and finish in the thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        call = Call(kind, bind, finish, deadline=time.monotonic() + self._timeout_seconds, future=future)
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(call)  # type: ignore[arg-type]  # each call keeps its own types together
        return await future

    def dismiss(self) -> None:
        """Let the thread end after the calls before this one, and close its connection."""
        self._hand_over()
        self._calls.put(None)

    async def join(self) -> None:
        """Wait for the end of the dismissed thread."""
        await asyncio.shield(self._ended)
        self._thread.join()  # it has nothing left to do

    def _hand_over(self) -> None:
        """
        Hand over what was asked for in one turn of the loop, together.

        Those whom one commit has answered ask again in the same turn, each after making its job. The thread would start
        with the first of them, and commit for it alone.
        """
        for call in self._gathered:
            self._calls.put(call)
        self._gathered = []

    def _serve(self, connect: Connect) -> None:
        # The connection is a local: a forked child, which has no such thread, never closes what its parent uses.
        with ExitStack() as stack:
            stack.callback(self._post, _fulfil, self._ended)
            try:
                connection = stack.enter_context(connect())
            except BaseException as error:  # handed to whoever started the thread
                self._post(_fail, self._opened, error)
                return
            self._post(_fulfil, self._opened)
            while calls := self._next_calls():
                self._run(connection, calls)
                self._post(_settle, calls)
                del calls  # an idle thread keeps nothing alive

    def _next_calls(self) -> list[AnyCall]:
        """Wait for a call, and return it with what waits behind it; empty: the thread is to end."""
        first = self._calls.get()
        calls = [] if first is None else [first]
        for _ in range(min(self._calls.qsize(), GROUP) if calls else 0):
            call = self._calls.get()
            if call is None:
                self._calls.put(None)  # nothing comes after it
                break
            calls.append(call)
        return calls

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody is left to hear
            self._loop.call_soon_threadsafe(callback, *arguments)


def run_reads(connection: sqlite3.Connection, calls: Sequence[AnyCall]) -> None:
    """Run each call for itself: one statement sees one moment, and needs no transaction."""
    for call in calls:
        if call.prepare():
            try:
                call.run(connection)
            except BaseException as error:  # handed to whoever awaits the call
                call.error = error
            else:
                call.conclude()


def _settle(calls: Sequence[AnyCall]) -> None:
    for call in calls:
        call.settle()


def _fulfil(future: "asyncio.Future[None]") -> None:
    future.set_result(None)


def _fail(future: "asyncio.Future[None]", error: BaseException) -> None:
    future.set_exception(error)
