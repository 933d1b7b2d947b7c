"""Coalescing, for storages whose calls are dear: those that wait at the same time share one, and its commit."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from attrs import define

from pannier.errors import StorageUnavailableError

T = TypeVar("T")


@define(eq=False)
class _Call(Generic[T]):
    items: Sequence[T]
    done: asyncio.Future[Exception | None]
    deadline: float

    def finish(self, error: Exception | None) -> None:
        """Let the caller go on, with *error* if there is one; a result, since nobody may be there to take it."""
        if not self.done.done():
            self.done.set_result(error)


class Coalescer(Generic[T]):
    """
    New jobs on their way into the store, in the form that a storage gives them.

    Whatever waits when a flush returns goes into the next one; a call alone never waits for company. Ten callers at
    once store 5 to 7 times as much as one after the other. Jobs with a key have no business here: storing one waits for
    whoever is storing the same key, and nobody else should have to (R122).
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[None]],
        *,
        seconds: float,
        share: Callable[[T], float],
    ) -> None:
        """
        Make one.

        Args:
            flush: Stores jobs. Where it raises, it may be called again with a part of them.
            seconds: How long a call may take; what *flush* takes it limits itself.
            share: What part of one flush a job fills; 1 and more: all of it.
        """
        self._flush: Final = flush
        self._share: Final = share
        self._seconds: Final = seconds
        self._waiting: deque[_Call[T]] = deque()
        self._storing: Sequence[_Call[T]] = ()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def add(self, items: Sequence[T]) -> None:
        """
        Store *items*.

        Cancelled or late while it waits, a call is left out; later, it is stored all the same, or not at all if it went
        alone.

        Raises:
            StorageError: What this call alone would have met.
            TimeoutError: It took too long.
        """
        if self._idle.is_set():
            self._idle.clear()
            try:
                await asyncio.sleep(0)  # whoever starts in the same turn of the loop comes along
                if not self._waiting:
                    # In the caller's own task: one of ours, and a future to wait for, take 20 of 165 us.
                    await self._flush(items)
                    return
                call = self._call(items)
                self._waiting.appendleft(call)
            finally:
                self._hand_over()
        else:
            call = self._call(items)
            self._waiting.append(call)
        error = await call.done
        if error is not None:
            raise error

    async def close(self) -> None:
        """Wait until everything has been stored, or refused."""
        while not self._idle.is_set():
            await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()

    def _call(self, items: Sequence[T]) -> _Call[T]:
        """Return a call that ends in time. One timer watches over all: one each would take 2 us a call."""
        loop = asyncio.get_running_loop()
        call = _Call(items, loop.create_future(), loop.time() + self._seconds)
        if self._timer is None:
            self._timer = loop.call_at(call.deadline, self._end_late)
        return call

    def _end_late(self) -> None:
        loop = asyncio.get_running_loop()
        now, left = loop.time(), [call for call in (*self._storing, *self._waiting) if not call.done.done()]
        for call in left:
            if call.deadline <= now:
                call.finish(TimeoutError())
        deadlines = [call.deadline for call in left if call.deadline > now]
        self._timer = loop.call_at(min(deadlines), self._end_late) if deadlines else None

    def _hand_over(self) -> None:
        """Let those go on who wait."""
        if self._waiting:
            self._task = asyncio.create_task(self._run())
        else:
            self._idle.set()

    async def _run(self) -> None:
        try:
            while calls := self._next():
                self._storing = calls
                await self._store(calls)
        finally:
            self._storing, self._task = (), None
            self._idle.set()

    def _next(self) -> list[_Call[T]]:
        """Take from the line what one flush holds, at least one call, less those that were given up."""
        calls: list[_Call[T]] = []
        room = 1.0
        while self._waiting:
            call = self._waiting[0]
            room -= sum(map(self._share, call.items))
            if calls and room < 0:
                break
            self._waiting.popleft()
            if not call.done.done():
                calls.append(call)
        return calls

    async def _store(self, calls: Sequence[_Call[T]]) -> None:
        try:
            await self._flush([item for call in calls for item in call.items])
        except StorageUnavailableError as error:  # which is true for each of them
            for call in calls:
                call.finish(_another(error))
        except Exception as error:
            if len(calls) == 1:
                calls[0].finish(error)
                return
            for call in calls:  # one call's error is not another's (R122)
                await self._store([call])
        else:
            for call in calls:
                call.finish(None)


def _another(error: StorageUnavailableError) -> StorageUnavailableError:
    """Return an error like *error*: raised in many places, one would gather all of their tracebacks."""
    copied = StorageUnavailableError(*error.args)
    copied.__cause__ = error.__cause__
    return copied
