"""Execution by itself: moments that a whole worker shows too seldom."""

import asyncio
from collections.abc import Coroutine, Generator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

import pytest
from attrs import frozen

from pannier import Command, JobQueues, StopReason, transitions
from pannier.clock import SystemClock
from pannier.settlements import Outcome, Release
from pannier.worker.attempts import Attempt
from pannier.worker.execution import Execution
from pannier.worker.lanes import Lane
from tests.engine.conftest import QUICK, play

T = TypeVar("T")


@frozen
class Work(Command[None]):
    """Anything."""


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (StopReason.SHUTDOWN, Release()),
        (StopReason.LEASE_ENDING, Release()),
        (StopReason.CANCELLED, None),
        (StopReason.LEASE_LOST, None),
    ],
)
def test_a_handler_that_is_stopped_before_its_first_step_never_runs(
    reason: StopReason, outcome: Outcome | None
) -> None:
    """A task that is cancelled before its first step runs no code at all; its slot is freed all the same (E1, E2)."""
    jobs = JobQueues("memory://", defaults=QUICK)
    runs: list[Work] = []

    @jobs.handler()
    async def work(command: Work) -> None:
        runs.append(command)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(lazily)
        ended: asyncio.Queue[Attempt] = asyncio.Queue()
        execution = execution_of(jobs, ended)
        attempt = claimed(jobs)
        execution.start(attempt)
        attempt.ask_to_stop(reason)
        assert await ended.get() is attempt
        assert attempt.outcome == outcome
        assert not execution.running

    play(main)
    assert runs == []


def test_a_programs_task_factory_makes_the_tasks_of_its_handlers() -> None:
    """What a program has set up for all of its tasks holds for those that run handlers, too."""
    jobs = JobQueues("memory://", defaults=QUICK)
    runners: list[bool] = []

    @jobs.handler()
    async def work(_: Work) -> None:
        runners.append(isinstance(asyncio.current_task(), LazyTask))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(lazily)
        ended: asyncio.Queue[Attempt] = asyncio.Queue()
        execution_of(jobs, ended).start(claimed(jobs))
        await ended.get()

    play(main)
    assert runners == [True]


class LazyTask(asyncio.Task[T]):
    """A task that a program's own factory has made."""


def lazily(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
) -> asyncio.Future[T]:
    """Make a task that takes its first step when the loop comes to it."""
    assert isinstance(coroutine, Coroutine)
    return LazyTask(coroutine, loop=loop, **options)


def execution_of(jobs: JobQueues, ended: asyncio.Queue[Attempt]) -> Execution:
    """Return an execution that tells *ended* of what has ended."""
    return Execution(
        queues=jobs,
        invoker=jobs.invoker,
        codec=jobs.codec,
        results=None,
        clock=SystemClock(),
        random=Random(1),
        worker_id="worker",
        choose_delay=jobs.observers.retry_delay,
        ended=ended.put_nowait,
        lost=lambda _: None,
    )


def claimed(jobs: JobQueues) -> Attempt:
    """Return an attempt of a job that has just been claimed."""
    [registration] = jobs.registry
    now, lease_for = datetime.now(UTC), timedelta(seconds=30)
    job = transitions.claim(jobs.create_job(Work()), worker_id="worker", now=now, lease_for=lease_for)
    return Attempt(job, Lane(registration, registration.queue_options(jobs.defaults)), now + lease_for)
