"""Invocation: how a handler is called, the same way for immediate and for queued execution (E9)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import cast

from attrs import frozen

from pannier.codec import Codec
from pannier.commands import Command, JobResult, TrackableJob
from pannier.context import JobContext
from pannier.handlers import Handler, HandlerKind, Registration, Resolver
from pannier.middleware import Middleware, wrap
from pannier.records import Payload


class Invoker:
    """Calls handlers inside all middleware."""

    def __init__(self, *, resolver: Resolver, middleware: Sequence[Middleware]) -> None:
        self._resolver = resolver
        self._middleware = tuple(middleware)

    def invoke(self, handler: Handler, command: Command[object], job: JobContext[object]) -> Awaitable[object]:
        """
        Start *handler* on *command*, inside all middleware; await the answer for its result.

        Raises:
            BaseException: Whatever the handler or a middleware raises.
        """
        if not self._middleware:
            return self._call(handler, command, job)
        return wrap(self._middleware, partial(self._call, handler), job)(command)

    def _call(self, handler: Handler, command: Command[object], job: JobContext[object]) -> Awaitable[object]:
        function = self._resolve(handler)
        call = partial(function, command, job) if handler.takes_context else partial(function, command)
        if handler.kind is HandlerKind.ASYNC:
            return cast("Awaitable[object]", call())
        return _in_thread(call, name=f"pannier {job.queue_id}")

    def _resolve(self, handler: Handler) -> Callable[..., object]:
        if not handler.is_class:
            return handler.target
        return cast("Callable[..., object]", self._resolver(cast("type", handler.target)).execute)


@frozen
class _Raised:
    error: BaseException


async def _in_thread(call: Callable[[], object], *, name: str) -> object:
    """
    Run *call* in a daemon thread of its own, with this task's context variables.

    Not a pool: the interpreter waits for a pool's threads at exit, and a handler that never ends must not keep its
    process alive (E5). Starting a thread costs about 60 us.
    """
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

    Thread(target=run, name=name, daemon=True).start()
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
