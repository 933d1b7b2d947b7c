"""Event loops whose time is the universe's."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVarTuple, Unpack

from tests.engine.simulation.universe import Host, Killed, State, Universe

Ts = TypeVarTuple("Ts")

ONE_BY_ONE: Final = 0.3
"""How often a loop runs a single callback where it could run all that are ready: threads are interrupted anywhere."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """An event loop whose time is the universe's. It knows timers and callbacks, and no sockets."""

    def __init__(self, universe: Universe, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self._universe = universe
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._is_closed = False
        self._is_blocked = False
        universe.add(self)

    # -- an actor ------------------------------------------------------------------------------------------------------

    def wakes_at(self) -> float | None:
        """Return from when on a callback is to be run."""
        if self._is_blocked or self._is_closed:
            return None
        if self._ready:
            return 0.0
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self) -> None:
        """Run callbacks that are ready, in their order: all of them, or one."""
        while self._timers and self._timers[0][0] <= self._universe.now:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._ready.append(timer)
        count = len(self._ready)
        if count > 1 and self._universe.random.random() < ONE_BY_ONE:
            count = 1
        asyncio._set_running_loop(self)
        try:
            for _ in range(count):
                handle = self._ready.popleft()
                if not handle.cancelled():
                    try:
                        handle._run()
                    except SystemExit:
                        self.host.exited()
                if self.host.state is not State.ALIVE:
                    break
        finally:
            asyncio._set_running_loop(None)

    def is_over(self) -> bool:
        """Whether it is closed."""
        return self._is_closed

    def hold(self, seconds: float) -> None:
        """Let others run inside of the running task, which blocks this loop."""
        self.host.is_blocked = True
        with _Blocked(self):
            end = self._universe.now + seconds
            self._universe.run_until(
                lambda: self._universe.now >= end and self.host.state is not State.FROZEN, deadline=float("inf")
            )
        self.host.is_blocked, self.host.blocked_at = False, self._universe.now
        if self.host.state is State.DEAD:
            raise Killed

    def begin(self, work: Coroutine[object, object, object], name: str) -> Callable[[], bool]:
        """Let *work* run here, and return what tells whether it is done. Whoever calls this does not run here."""
        return self.create_task(work, name=name).done

    def give_up(self) -> None:
        """Cancel every task."""
        for task in asyncio.all_tasks(self):
            task.cancel()

    # -- an event loop -------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._universe.now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self._is_closed:
            raise RuntimeError("this loop is closed")
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._universe.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count: a cancelled timer is dropped when its time comes."""

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._is_closed

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.host.state is State.ALIVE:
            self._universe.faults.append(f"{self.name}: {context['message']}: {context.get('exception')!r}")


def new_loop(universe: Universe, host: Host, name: str) -> VirtualLoop:
    """Make an event loop of *host*. What it leaves out, sockets and the like, nobody asks for here."""
    return VirtualLoop(universe, host, name)  # type: ignore[abstract]  # see above


class _Blocked:
    """The time in which a running task holds its loop. Other loops run inside of it, in the same thread."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._task = asyncio.current_task(loop)

    def __enter__(self) -> None:
        self._loop._is_blocked = True
        if self._task is not None:
            asyncio._leave_task(self._loop, self._task)

    def __exit__(self, *_: object) -> None:
        self._loop._is_blocked = False
        asyncio._set_running_loop(self._loop)
        if self._task is not None:
            asyncio._enter_task(self._loop, self._task)
