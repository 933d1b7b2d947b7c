"""Commands, handlers, middleware and setup, beside those of FastEndpoints: lines F1 to F24 of the table in docs/."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Generic, TypeVar

import pytest
from attrs import frozen

from pannier import (
    Command,
    ConfigurationError,
    HandlerRegistry,
    JobContext,
    JobQueues,
    Next,
    QueueOptions,
    WorkerOptions,
)
from pannier.errors import UnregisteredCommandError, UsageError
from pannier.session import DEFAULT_PROBE
from tests.engine.conftest import play

T = TypeVar("T")


@frozen
class Greet(Command[str]):
    """Has a result."""

    name: str = "Ada"


@frozen
class Ping(Command[None]):
    """Has none."""


@frozen
class Box(Command[T], Generic[T]):
    """A generic command."""

    content: T


@frozen
class NumberBox(Box[int]):
    """A closed form of it."""


@pytest.fixture
def jobs() -> JobQueues:
    """Job queues without a command."""
    return JobQueues("memory://")


def test_f1_a_command_declares_its_result_or_none(jobs: JobQueues) -> None:
    """One base for both: `Command[R]`, and `Command[None]` where there is no result."""

    @jobs.handler()
    async def greet(command: Greet) -> str:
        return f"hello {command.name}"

    @jobs.handler()
    async def ping(command: Ping) -> None:
        return None

    async def main() -> None:
        assert await jobs.execute(Greet()) == "hello Ada"
        await jobs.execute(Ping())

    play(main)


def test_f2_a_stream_is_no_job(jobs: JobQueues) -> None:
    """A handler that yields is refused when it is registered."""
    with pytest.raises(ConfigurationError, match="is a generator, it must return its result"):

        @jobs.handler()
        async def greet(command: Greet) -> AsyncIterator[str]:
            yield command.name


def test_f3_a_second_handler_is_an_error(jobs: JobQueues) -> None:
    """Nobody has to find out which of two won."""

    @jobs.handler()
    async def greet(command: Greet) -> str:
        return command.name

    with pytest.raises(ConfigurationError, match="a command has one handler"):
        jobs.handler()(greet)


class Greeter:
    """A class handler with a dependency."""

    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    async def execute(self, command: Greet) -> str:
        return f"{self.greeting} {command.name} {id(self)}"


def test_f4_each_execution_has_a_new_instance(jobs: JobQueues) -> None:
    """What one leaves on itself the next one doesn't find."""
    seen: list[object] = []

    @jobs.handler()
    class Remembering:
        async def execute(self, command: Greet) -> str:
            seen.append(self)  # kept, so that no two have one address
            return command.name

    async def main() -> None:
        for _ in range(5):
            await jobs.execute(Greet())

    play(main)
    assert len(set(map(id, seen))) == 5


def test_f5_a_resolver_injects_dependencies() -> None:
    """Where a container fits in; called for each execution, in jobs as well, so that scoped services work there."""

    class Resolver:
        def __call__(self, handler: type[T], /) -> T:
            return handler("good day")  # type: ignore[call-arg]  # the container knows what it wants

    jobs = JobQueues("memory://", resolver=Resolver())
    jobs.handler()(Greeter)

    async def main() -> None:
        assert (await jobs.execute(Greet())).startswith("good day Ada")
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Greet("Bea"))
            assert (await jobs.tracker(Greet).wait_for_result(tracking_id)).startswith("good day Bea")

    play(main)


def test_f6_the_type_at_run_time_decides(jobs: JobQueues) -> None:
    """A variable of the base's type is executed by its own handler."""

    @jobs.handler()
    async def greet(command: Greet) -> str:
        return command.name

    command: Command[object] = Greet("Cleo")

    async def main() -> None:
        assert await jobs.execute(command) == "Cleo"

    play(main)


def test_f7_a_command_without_a_handler_is_a_clear_error(jobs: JobQueues) -> None:
    """It names the command."""
    jobs.declare(Greet)

    async def main() -> None:
        with pytest.raises(UsageError, match="Greet is declared here, but has no handler to execute it"):
            await jobs.execute(Greet())

    play(main)


def test_f8_handlers_are_collected_before_any_job_queues_exist() -> None:
    """A registry for each module, taken over by name: what is not included is not there."""
    included, left_out = HandlerRegistry(), HandlerRegistry()

    @included.handler()
    async def greet(command: Greet) -> str:
        return command.name

    @left_out.handler()
    async def ping(command: Ping) -> None:
        return None

    jobs = JobQueues("memory://", handlers=included)

    async def main() -> None:
        assert await jobs.execute(Greet()) == "Ada"
        with pytest.raises(UnregisteredCommandError):
            await jobs.execute(Ping())

    play(main)


def test_f9_a_closed_generic_command_is_a_command(jobs: JobQueues) -> None:
    """Its result is what the generic one says, with the parameter filled in."""

    @jobs.handler()
    async def open_box(command: NumberBox) -> int:
        return command.content

    async def main() -> None:
        assert await jobs.execute(NumberBox(7)) == 7

    play(main)


async def only_greetings(command: Command[object], job: JobContext[object], call_next: Next) -> object:
    """Touch one kind of command, and pass on all others."""
    result = await call_next(command)
    return f"{result}!" if isinstance(command, Greet) else result


def test_f11_middleware_chooses_by_type() -> None:
    """It sees the command, so `isinstance` is its constraint."""
    jobs = JobQueues("memory://", middleware=[only_greetings])

    @jobs.handler()
    async def greet(command: Greet) -> str:
        return command.name

    @jobs.handler()
    async def open_box(command: NumberBox) -> int:
        return command.content

    async def main() -> None:
        assert await jobs.execute(Greet()) == "Ada!"
        assert await jobs.execute(NumberBox(7)) == 7

    play(main)


def test_f13_a_test_swaps_a_handler_by_its_own_registry() -> None:
    """There is no global to be patched: other job queues have other handlers, and the same middleware."""
    doubles = HandlerRegistry()

    @doubles.handler()
    async def greet(command: Greet) -> str:
        return "a double"

    jobs = JobQueues("memory://", handlers=doubles, middleware=[only_greetings])

    async def main() -> None:
        assert await jobs.execute(Greet()) == "a double!"

    play(main)


def test_f16_several_job_queues_live_side_by_side() -> None:
    """Nothing is static: each has its own storage, handlers and options."""
    first, second = JobQueues("memory://"), JobQueues("memory://")

    @first.handler(name="greetings")
    async def greet(command: Greet) -> str:
        return "first"

    @second.handler()
    async def greet_otherwise(command: Greet) -> str:
        return "second"

    async def main() -> None:
        async with first.worker(), second.worker():
            for jobs, text in ((first, "first"), (second, "second")):
                tracking_id = await jobs.queue_job(Greet())
                assert await jobs.tracker(Greet).wait_for_result(tracking_id) == text

    play(main)


def test_f18_a_worker_without_a_handler_is_an_error(jobs: JobQueues) -> None:
    """When it starts, with what to do."""
    jobs.declare(Greet)

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="a worker needs at least one handler"):
            await jobs.worker().__aenter__()

    play(main)


def test_f20_options_have_the_defaults_of_the_original() -> None:
    """As many at once as there are CPUs, no time limit, a probe each minute where the storage pushes."""
    assert QueueOptions().max_concurrency == os.cpu_count()
    assert QueueOptions().time_limit is None
    assert DEFAULT_PROBE[True] == timedelta(seconds=60)
    assert WorkerOptions().storage_retry_delay == timedelta(seconds=5)


def test_f21_a_queue_has_limits_of_its_own() -> None:
    """The original's LimitsFor; what it says nothing of is as everywhere."""
    jobs = JobQueues("memory://", defaults=QueueOptions(max_concurrency=3, time_limit=timedelta(minutes=1)))

    @jobs.handler(max_concurrency=1)
    async def greet(command: Greet) -> str:
        return command.name

    options = jobs.registry.get(Greet).queue_options(jobs.defaults)
    assert (options.max_concurrency, options.time_limit) == (1, timedelta(minutes=1))


def test_f22_a_selector_chooses_the_idempotency_key(jobs: JobQueues) -> None:
    """The original's IdempotencyKeyFor."""

    def key(command: Greet) -> str:
        return f"greet {command.name}"

    @jobs.handler(idempotency_key=key)
    async def greet(command: Greet) -> str:
        return command.name

    assert jobs.create_job(Greet()).idempotency_key == "greet Ada"


def test_f24_it_needs_no_framework_around_it(jobs: JobQueues) -> None:
    """A program of a few lines queues and works."""

    @jobs.handler()
    async def greet(command: Greet) -> str:
        return command.name

    async def main() -> str:
        async with jobs.worker():
            return await jobs.tracker(Greet).wait_for_result(await jobs.queue_job(Greet()))

    assert asyncio.run(main()) == "Ada"
