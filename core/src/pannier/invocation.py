"""Invocation: how a handler is called, the same way for immediate and for queued execution (E9)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TypeAlias, cast

from attrs import frozen

from pannier.codec import Codec
from pannier.commands import Command, JobResult, TrackableJob
from pannier.context import JobContext
from pannier.handlers import ClassHandler, Handler, HandlerKind, Resolver
from pannier.middleware import Middleware, wrap
from pannier.records import Payload
from pannier.registry import Registration
from pannier.threads import Threads

MakeContext: TypeAlias = Callable[[], JobContext[object]]
"""Makes the context of an execution when somebody wants it: 1.5 us that most handlers don't need to pay."""

Call: TypeAlias = Callable[[Command[object], MakeContext], Awaitable[object]]
"""Calls one handler, inside all middleware."""


class Invoker:
    """Prepares handlers to be called inside all middleware."""

    def __init__(self, *, resolver: Resolver, middleware: Sequence[Middleware], threads: Threads) -> None:
        self._resolver = resolver
        self._middleware = tuple(middleware)
        self._threads = threads

    def prepare(self, handler: Handler) -> Call:
        """Return how to call *handler*. Awaiting a call gives the handler's result, or raises what it raises."""
        function = self._bound(handler)
        if not self._middleware:
            return function

        def call(command: Command[object], make_context: MakeContext) -> Awaitable[object]:
            job = make_context()
            return wrap(self._middleware, lambda inner: function(inner, lambda: job), job)(command)

        return call

    def _bound(self, handler: Handler) -> Call:
        if handler.kind is HandlerKind.ASYNC and not handler.is_class and not handler.takes_context:
            function = cast("Callable[[Command[object]], Awaitable[object]]", handler.target)
            return lambda command, _: function(command)
        resolve = self._resolving(handler)
        if handler.kind is HandlerKind.ASYNC and handler.takes_context:
            return lambda command, make_context: cast("Awaitable[object]", resolve()(command, make_context()))
        if handler.kind is HandlerKind.ASYNC:
            return lambda command, _: cast("Awaitable[object]", resolve()(command))

        def in_thread(command: Command[object], make_context: MakeContext) -> Awaitable[object]:
            job = make_context()
            arguments = (command, job) if handler.takes_context else (command,)
            return _in_thread(self._threads, partial(resolve(), *arguments), name=f"pannier {job.queue_id}")

        return in_thread

    def _resolving(self, handler: Handler) -> Callable[[], Callable[..., object]]:
        if not handler.is_class:
            return lambda: handler.target
        target = cast("type[ClassHandler]", handler.target)
        return lambda: self._resolver(target).execute


@frozen
class _Raised:
    error: BaseException


async def _in_thread(threads: Threads, call: Callable[[], object], *, name: str) -> object:
    """Run *call* in a thread of its own, with this task's context variables."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[object] = loop.create_future()
    context = copy_context()

    def run() -> None:
        try:
            outcome: object = context.run(call)
        except BaseException as error:  # handed to whoever awaits the handler
            outcome = _Raised(error)
        with suppress(RuntimeError):  # the loop was closed: nobody is left to hear of it
            loop.call_soon_threadsafe(_answer, answer, outcome)

    threads.start(run, name=name)
    outcome = await answer
    if isinstance(outcome, _Raised):
        raise outcome.error
    return outcome


def _answer(future: "asyncio.Future[object]", outcome: object) -> None:
    if not future.done():
        future.set_result(outcome)


@frozen
class Steps:
    """How the progress of a job is stored that has no result before its end."""

    total_steps: int
    current_step: int
    current_status: str | None


def encode_progress(codec: Codec, registration: Registration, progress: JobResult[object]) -> Payload:
    """
    Write *progress* as the command's own result type where that is a `JobResult`, else as mere steps.

    Raises:
        EncodingError: It is not of the declared type.
    """
    if issubclass(registration.command, TrackableJob):
        return codec.encode(progress, registration.result)
    return codec.encode(Steps(progress.total_steps, progress.current_step, progress.current_status), Steps)


def progress_type(registration: Registration) -> object:
    """Return the type that the progress of the command's jobs is stored as."""
    return registration.result if issubclass(registration.command, TrackableJob) else Steps
