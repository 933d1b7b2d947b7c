"""The jobs of a run: four commands, and handlers that write down when they start and end."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pannier.commands import Command
from pannier.context import JobContext
from pannier.options import QueueOptions
from pannier.registry import HandlerRegistry
from pannier.retry import RetryPolicy
from pannier_testing.torture.ground import Journal

if TYPE_CHECKING:
    from pannier.records import Json

OPTIONS: Final = QueueOptions(
    max_concurrency=4, expire_after=None, retry=RetryPolicy(max_attempts=100, first_delay=timedelta(milliseconds=20))
)


class NotYetError(Exception):
    """What a `Flaky` job raises the first time."""


@frozen
class Quick(Command[int]):
    """Takes no time to speak of."""

    number: int
    seconds: float


@frozen
class Patient(Command[int]):
    """Takes long enough to be in progress when something happens."""

    number: int
    seconds: float


@frozen
class Threaded(Command[int]):
    """Runs in a thread."""

    number: int
    seconds: float


@frozen
class Flaky(Command[int]):
    """Fails at its first attempt."""

    number: int
    seconds: float


KINDS: Final[Mapping[str, Callable[[int, float], Command[int]]]] = {
    kind.__name__: kind for kind in (Quick, Patient, Threaded, Flaky)
}
"""By the names of their queues."""


def new_command(rng: Random, number: int) -> Command[int]:
    """Return a command by chance."""
    [name] = rng.choices(list(KINDS), weights=[60, 15, 15, 10])
    longest = {"Patient": 0.3, "Threaded": 0.02}.get(name, 0.004)
    return KINDS[name](number, rng.random() * longest)


def result_of(number: int) -> int:
    """Return what a handler has to come up with."""
    return 3 * number + 1


def handlers_on(journal: Journal) -> HandlerRegistry:
    """Return handlers that write into *journal*."""
    registry = HandlerRegistry()

    @contextmanager
    def noted(job: JobContext[int]) -> Iterator[None]:
        about: dict[str, Json] = {"id": str(job.tracking_id), "fence": journal.fences.get(job.tracking_id, 0)}
        journal.note("start", **about)
        try:
            yield
        except BaseException:
            journal.note("stop", **about)
            raise
        journal.note("end", **about)

    @registry.handler()
    async def quick(command: Quick, job: JobContext[int]) -> int:
        with noted(job):
            await asyncio.sleep(command.seconds)
        return result_of(command.number)

    @registry.handler()
    async def patient(command: Patient, job: JobContext[int]) -> int:
        with noted(job):
            await asyncio.sleep(command.seconds / 2)
            await job.report(current_step=1, total_steps=2)
            await asyncio.sleep(command.seconds / 2)
        return result_of(command.number)

    @registry.handler()
    def threaded(command: Threaded, job: JobContext[int]) -> int:
        with noted(job):
            time.sleep(command.seconds)
        return result_of(command.number)

    @registry.handler()
    async def flaky(command: Flaky, job: JobContext[int]) -> int:
        with noted(job):
            if job.attempt == 1:
                raise NotYetError
        return result_of(command.number)

    return registry
