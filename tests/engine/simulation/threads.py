"""Threads that take turns with everything else in the universe."""

import asyncio
import threading
from collections.abc import Callable, Coroutine

from tests.engine.simulation.loops import new_loop
from tests.engine.simulation.universe import Host, Killed, Universe


class VirtualThread:
    """A real thread that runs only while the universe waits for it."""

    def __init__(self, universe: Universe, host: Host, run: Callable[[], None], name: str) -> None:
        self.host = host
        self._universe = universe
        self._run = run
        self._go = _closed_gate()
        self._back = _closed_gate()
        self._wakes_at: float | None = universe.now
        self._is_killed = False
        threading.Thread(target=self._main, name=name, daemon=True).start()
        universe.add(self)

    def wakes_at(self) -> float | None:
        """Return when its pause ends; None: it has returned."""
        return self._wakes_at

    def is_over(self) -> bool:
        """Whether it has returned."""
        return self._wakes_at is None

    def step(self) -> None:
        """Let it run until it pauses or returns."""
        self._go.release()
        self._back.acquire()

    def hold(self, seconds: float) -> None:
        """Let others run for so long. Called in the thread."""
        self._wakes_at = self._universe.now + seconds
        self._back.release()
        self._go.acquire()
        if self._is_killed:
            raise Killed

    def give_up(self) -> None:
        """Let its next step be the last."""
        self._is_killed = True
        if self._wakes_at is not None:
            self._wakes_at = self._universe.now

    def close(self) -> None:
        """There is nothing to close."""

    def _main(self) -> None:
        self._go.acquire()
        try:
            if not self._is_killed:
                self._run()
        finally:
            self._wakes_at = None
            self._back.release()


def _closed_gate() -> threading.Lock:
    """Return a lock that whoever comes first waits at; it is passed once each time that somebody opens it."""
    gate = threading.Lock()
    gate.acquire()
    return gate


class VirtualThreads:
    """Starts threads and loops of one process in the universe. Serves as `pannier.environment.Environment.threads`."""

    def __init__(self, universe: Universe, host: Host, name: str) -> None:
        self.host = host
        self._universe = universe
        self._name = name

    def start(self, run: Callable[[], None], *, name: str) -> None:
        """Call *run* in a thread that takes turns with everything else."""
        VirtualThread(self._universe, self.host, run, f"{self._name} {name}")

    def start_loop(
        self,
        main: Callable[[], Coroutine[object, object, None]],
        *,
        name: str,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """Run what *main* makes on an event loop of its own that takes turns with everything else."""
        loop = new_loop(self._universe, self.host, f"{self._name} {name}")

        async def run() -> None:
            fault: BaseException | None = None
            try:
                await main()
            except asyncio.CancelledError:
                pass
            except BaseException as error:
                fault = error
            ended(fault)
            loop.call_soon(loop.close)

        loop.begin(run(), name)
