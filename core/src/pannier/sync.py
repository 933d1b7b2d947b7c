"""
The same API for code without an event loop, from any number of threads.

Methods are made from their async originals by `blocking`, which keeps the signature; there is nothing to keep in step.
"""

import asyncio
import atexit
import os
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import wraps
from threading import Lock, Thread
from typing import Concatenate, Generic, ParamSpec, TypeVar
from uuid import UUID
from weakref import finalize

from pannier.commands import Command, JobResult, TrackableJob
from pannier.context import JobContext
from pannier.errors import UsageError
from pannier.queues import JobQueues
from pannier.tracker import JobTracker

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
J = TypeVar("J", bound=JobResult[object])
C = TypeVar("C", bound=Command[object])
C_co = TypeVar("C_co", bound=Command[object], covariant=True)
O_co = TypeVar("O_co", covariant=True)


class Portal:
    """
    Runs coroutines of one `JobQueues` on its event loop, from other threads.

    Where the job queues are open already (in a worker, from a handler's thread), that loop is used. Elsewhere the
    first call starts a daemon thread with a loop of its own and opens them there. A forked child starts its own.
    """

    def __init__(self, jobs: JobQueues) -> None:
        self._jobs = jobs
        self._lock = Lock()
        self._pid = os.getpid()
        self._own: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Callable[[], Coroutine[object, object, T]]) -> T:
        """
        Run what *coroutine* makes, and wait for its result.

        Raises:
            UsageError: The calling thread runs an event loop, which would be blocked.
            BaseException: Whatever the coroutine raises.
        """
        _refuse_on_loop()
        future = asyncio.run_coroutine_threadsafe(coroutine(), self._loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a KeyboardInterrupt ends the wait; the coroutine must not go on unseen
            raise

    def close(self) -> None:
        """Close what `run` has opened and end its thread. Does nothing where the job queues were opened by others."""
        if self._pid != os.getpid():
            return
        with self._lock:
            loop, self._own = self._own, None
        atexit.unregister(self.close)
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._jobs.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)

    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():  # a forked child: the parent's loop is not here, its lock may be held for ever
            self._pid, self._own, self._lock = os.getpid(), None, Lock()
        with self._lock:
            if self._own is not None:
                return self._own
            if self._jobs.is_open:
                return self._jobs.session.loop
            loop = asyncio.new_event_loop()
            Thread(target=_run_loop, args=(loop,), name="pannier sync", daemon=True).start()
            try:
                asyncio.run_coroutine_threadsafe(self._jobs.__aenter__(), loop).result()
            except BaseException:
                loop.call_soon_threadsafe(loop.stop)
                raise
            self._own = loop
            # The program's end would tear things down under a loop that still runs, so close before: what is registered
            # last runs first, so finalizers (a watched file has one) have to be registered already.
            finalize(self, bool)
            atexit.register(self.close)
            return loop


class View(Generic[O_co]):
    """A blocking view of an object with async methods."""

    def __init__(self, original: O_co, portal: Portal) -> None:
        self._original = original
        self._portal = portal


def blocking(
    method: Callable[Concatenate[T, P], Coroutine[object, object, R]],
) -> Callable[Concatenate[View[T], P], R]:
    """Make the blocking form of an async *method*: same name, same arguments, same result, same errors."""

    @wraps(method)
    def call(view: View[T], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return view._portal.run(lambda: method(view._original, *args, **kwargs))  # its own view

    return call


class SyncJobTracker(View[JobTracker[C_co]]):
    """
    `JobTracker` for code without an event loop. See there.

    The three methods whose types hang on the tracker's own command are spelled out: through `blocking`, pyright infers
    nothing of them. A test holds their signatures to those of their originals.
    """

    def get_job_result(self: "SyncJobTracker[Command[R]]", tracking_id: UUID) -> R | None:
        """Do as `JobTracker.get_job_result`."""
        return self._portal.run(lambda: self._original.get_job_result(tracking_id))

    def wait_for_result(
        self: "SyncJobTracker[Command[R]]", tracking_id: UUID, *, timeout: timedelta | None = None
    ) -> R:
        """Do as `JobTracker.wait_for_result`."""
        return self._portal.run(lambda: self._original.wait_for_result(tracking_id, timeout=timeout))

    def store_job_result(self: "SyncJobTracker[TrackableJob[J]]", tracking_id: UUID, job_result: J) -> bool:
        """Do as `JobTracker.store_job_result`."""
        return self._portal.run(lambda: self._original.store_job_result(tracking_id, job_result))

    get_job_progress = blocking(JobTracker.get_job_progress)
    get_job = blocking(JobTracker.get_job)
    cancel_job = blocking(JobTracker.cancel_job)


class SyncJobContext(View[JobContext[R]]):
    """`JobContext` for handlers that run in a thread. See there."""

    report = blocking(JobContext.report)


class SyncJobQueues(View[JobQueues]):
    """
    `JobQueues` for code without an event loop. See there.

    Opened by the first call; `with jobs.sync:` closes it at the end, else the end of the program does.
    """

    def __init__(self, jobs: JobQueues) -> None:
        super().__init__(jobs, Portal(jobs))

    def __enter__(self) -> "SyncJobQueues":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened by a call. A later call opens it again."""
        self._portal.close()

    queue_job = blocking(JobQueues.queue_job)
    queue_jobs = blocking(JobQueues.queue_jobs)
    execute = blocking(JobQueues.execute)
    cancel_job = blocking(JobQueues.cancel_job)

    def tracker(self, command: type[C]) -> SyncJobTracker[C]:
        """Return a tracker of jobs of *command*. See `JobQueues.tracker`."""
        return SyncJobTracker(self._original.tracker(command), self._portal)

    @property
    def portal(self) -> Portal:
        """What runs the coroutines."""
        return self._portal


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "the blocking API would block this thread's event loop; use the async one: await jobs.queue_job(...)"
    )
