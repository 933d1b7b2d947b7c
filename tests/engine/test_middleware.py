"""Middleware: the same layers in the same order around immediate and around queued execution (E9)."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
from attrs import frozen

from pannier import NO_RETRY, Command, JobContext, JobFailedError, JobQueues, Middleware, Next, hookimpl
from pannier.handlers import HandlerKind
from tests.engine.conftest import QUICK, play

Execute = Callable[[JobQueues, Command[str]], Awaitable[object]]


@frozen
class Work(Command[str]):
    """Gives its own text."""

    text: str = "work"


async def immediately(jobs: JobQueues, command: Command[str]) -> object:
    """Execute *command* now."""
    return await jobs.execute(command)


async def queued(jobs: JobQueues, command: Command[str]) -> object:
    """Queue *command*, and wait for its result."""
    async with jobs.worker():
        return await jobs.tracker(type(command)).wait_for_result(await jobs.queue_job(command))


class Layers:
    """Layers of middleware, and what they saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def layer(self, name: str) -> Middleware:
        """Return a layer that tells when it is entered and left."""

        async def call(command: Command[object], job: JobContext[object], call_next: Next) -> object:
            self.seen.append(f"{name} before")
            try:
                return await call_next(command)
            finally:
                self.seen.append(f"{name} after")

        return call


class Plugin:
    """A plugin with a layer of its own."""

    def __init__(self, middleware: Middleware) -> None:
        self._middleware = middleware

    @hookimpl
    def pannier_middleware(self) -> Sequence[Middleware]:
        return [self._middleware]


@pytest.mark.parametrize("execute", [immediately, queued])
def test_layers_are_entered_in_order_and_left_in_reverse(execute: Execute) -> None:
    """E9: the first is the outermost, and plugins' layers lie outside."""
    layers = Layers()
    jobs = JobQueues(
        "memory://",
        middleware=[layers.layer("first"), layers.layer("second")],
        plugins=[Plugin(layers.layer("plugin"))],
    )

    @jobs.handler()
    async def work(command: Work) -> str:
        layers.seen.append("handler")
        return command.text

    async def main() -> None:
        assert await execute(jobs, Work()) == "work"

    play(main)
    assert layers.seen == [
        "plugin before",
        "first before",
        "second before",
        "handler",
        "second after",
        "first after",
        "plugin after",
    ]


@pytest.mark.parametrize("execute", [immediately, queued])
@pytest.mark.parametrize("kind", HandlerKind)
def test_a_layer_may_change_command_and_result(execute: Execute, kind: HandlerKind) -> None:
    """E9: what it passes on is executed, what it returns is the result."""

    async def change(command: Command[object], job: JobContext[object], call_next: Next) -> object:
        return f"<{await call_next(Work('changed'))}>"

    jobs = JobQueues("memory://", middleware=[change])

    async def in_loop(command: Work) -> str:
        return command.text

    def in_thread(command: Work) -> str:
        return command.text

    handlers = {HandlerKind.ASYNC: in_loop, HandlerKind.THREAD: in_thread}
    jobs.handler()(handlers[kind])

    async def main() -> None:
        assert await execute(jobs, Work()) == "<changed>"

    play(main)


@pytest.mark.parametrize(("execute", "error"), [(immediately, PermissionError), (queued, JobFailedError)])
def test_a_layer_may_refuse(execute: Execute, error: type[Exception]) -> None:
    """E9: the handler does not run, and the attempt has failed."""
    runs: list[Work] = []

    async def refuse(command: Command[object], job: JobContext[object], call_next: Next) -> object:
        raise PermissionError("not for you")

    jobs = JobQueues("memory://", middleware=[refuse], defaults=QUICK)

    @jobs.handler(retry=NO_RETRY)
    async def work(command: Work) -> str:
        runs.append(command)
        return command.text

    async def main() -> None:
        with pytest.raises(error, match="not for you"):
            await execute(jobs, Work())

    play(main)
    assert runs == []


@pytest.mark.parametrize("execute", [immediately, queued])
def test_layers_get_the_context_that_the_handler_gets(execute: Execute) -> None:
    """One execution has one context."""
    contexts: list[JobContext[object]] = []

    async def remember(command: Command[object], job: JobContext[object], call_next: Next) -> object:
        contexts.append(job)
        return await call_next(command)

    jobs = JobQueues("memory://", middleware=[remember])
    handed: list[object] = []

    @jobs.handler()
    async def work(command: Work, job: JobContext[str]) -> str:
        handed.append(job)
        return command.text

    async def main() -> None:
        await execute(jobs, Work())

    play(main)
    assert [id(context) for context in contexts] == [id(context) for context in handed]


@pytest.mark.parametrize("execute", [immediately, queued])
def test_each_execution_has_an_instance_of_its_class_handler(execute: Execute) -> None:
    """Class handlers are built anew for each execution, immediate or queued."""
    jobs = JobQueues("memory://")
    instances: list[object] = []

    @jobs.handler()
    class Handler:
        async def execute(self, command: Work) -> str:
            instances.append(self)
            return command.text

    async def main() -> None:
        await execute(jobs, Work())
        await execute(jobs, Work())

    play(main)
    assert len(set(map(id, instances))) == 2
