"""Threads, as the worker starts them: what a simulation replaces by threads that take turns."""

import asyncio
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Protocol


class Threads(Protocol):
    """
    Starts threads that never keep the process alive.

    Not a pool: the interpreter waits for a pool's threads at exit, and a handler that never ends must not keep its
    process alive (E5). Starting a thread costs about 60 us.
    """

    def start(self, run: Callable[[], None], *, name: str) -> None:
        """Call *run*, which raises nothing, in a thread of its own."""
        ...

    def start_loop(
        self,
        main: Callable[[], Coroutine[object, object, None]],
        *,
        name: str,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """
        Run what *main* makes on an event loop of its own, in a thread of its own.

        Args:
            main: Makes the coroutine.
            name: The thread's name.
            ended: Called at the end, in that thread, with what the coroutine or its loop died of; None: it returned, or
                was cancelled.
        """
        ...


class SystemThreads:
    """The interpreter's daemon threads."""

    def start(self, run: Callable[[], None], *, name: str) -> None:
        """Call *run* in a daemon thread."""
        Thread(target=run, name=name, daemon=True).start()

    def start_loop(
        self,
        main: Callable[[], Coroutine[object, object, None]],
        *,
        name: str,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """Run what *main* makes by `asyncio.run` in a daemon thread."""

        def run() -> None:
            fault: BaseException | None = None
            try:
                asyncio.run(main())
            except asyncio.CancelledError:
                pass
            except BaseException as error:  # handed on to whoever started this
                fault = error
            ended(fault)

        self.start(run, name=name)
