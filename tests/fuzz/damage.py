"""A worker beside a stored job that another hand has damaged: the same scene for every storage that has rows."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Final, TypeAlias
from uuid import UUID

from attrs import frozen

from pannier import Command, JobQueues, QueueOptions, RetryPolicy, WorkerOptions
from pannier.errors import StorageError

Damage: TypeAlias = Callable[[UUID], Awaitable[object]]
"""Damages what is stored of a job."""

HEALTHY: Final = 10
DEADLINE_SECONDS: Final = 20

OPTIONS: Final = WorkerOptions(
    lease_for=timedelta(seconds=1),
    renew_every=timedelta(milliseconds=300),
    probe_every=timedelta(milliseconds=50),
    storage_retry_delay=timedelta(milliseconds=20),
    shutdown_grace=timedelta(0),
)
QUICK: Final = QueueOptions(retry=RetryPolicy(max_attempts=2, first_delay=timedelta(milliseconds=10)))


@frozen
class Work(Command[str]):
    """Succeeds."""

    number: int


@frozen
class Suffer(Command[str]):
    """Waits for what becomes of its stored form, and fails."""


class Scene:
    """Damaged jobs that stand before healthy ones, and a worker that must get past them."""

    def __init__(self, url: str) -> None:
        self.runs: list[int] = []
        self._struck = asyncio.Event()
        self._suffering = 0
        self._jobs = JobQueues(url, defaults=QUICK)

        @self._jobs.handler(max_concurrency=2)
        async def work(command: Work) -> str:
            self.runs.append(command.number)
            return "done"

        @self._jobs.handler(max_concurrency=40)
        async def suffer(command: Suffer) -> str:
            self._suffering += 1
            await self._struck.wait()
            raise ValueError("as it does each time")

    async def damaged_while_they_wait(self, damages: Sequence[Damage]) -> None:
        """Damage a job by each of *damages*, before any worker sees it."""
        async with self._jobs:
            victims = await self._queue_victims(damages)
            healthy = await self._queue_healthy()
            await self._strike(victims, damages)
            async with self._jobs.worker(OPTIONS) as worker:
                await self._expect(healthy, worker.wait_until_failed())
            await self._check_shown(victims)

    async def damaged_while_they_run(self, damages: Sequence[Damage]) -> None:
        """Damage a job by each of *damages* while its handler runs, which fails then; each is tried twice."""
        async with self._jobs:
            victims = await self._queue_victims(damages)
            async with self._jobs.worker(OPTIONS) as worker:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while self._suffering < len(victims):  # noqa: ASYNC110  # nothing else tells
                        await asyncio.sleep(0.005)
                await self._strike(victims, damages)
                await asyncio.sleep(0.1)  # outcomes go out, some of which may have to come back
                await self._expect(await self._queue_healthy(), worker.wait_until_failed())
            await self._check_shown(victims)

    async def _queue_victims(self, damages: Sequence[Damage]) -> list[UUID]:
        return [await self._jobs.queue_job(Suffer()) for _ in damages]

    async def _queue_healthy(self) -> list[UUID]:
        """Queue healthy jobs; those of a victim's own queue stand behind it."""
        return await self._jobs.queue_jobs([Work(number) for number in range(HEALTHY)])

    async def _strike(self, victims: Sequence[UUID], damages: Sequence[Damage]) -> None:
        for victim, damage in zip(victims, damages, strict=True):
            await damage(victim)
        self._struck.set()

    async def _expect(self, healthy: Sequence[UUID], death: Awaitable[None]) -> None:
        """All healthy jobs succeed, each run once, and no part of the worker dies."""
        tracker = self._jobs.tracker(Work)
        dying = asyncio.ensure_future(death)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                results = [await tracker.wait_for_result(tracking_id) for tracking_id in healthy]
        finally:
            is_dead = dying.done()
            dying.cancel()
        assert results == ["done"] * HEALTHY
        assert not is_dead
        assert sorted(self.runs) == list(range(HEALTHY))

    async def _check_shown(self, victims: Sequence[UUID]) -> None:
        """What became of the damaged ones is told, or it is said clearly that it can't be read."""
        for victim in victims:
            try:
                await self._jobs.tracker(Suffer).get_job(victim)
            except StorageError as error:
                assert "read" in str(error) or "damaged" in str(error)  # noqa: PT017  # either answer is right


Phase: TypeAlias = Callable[[Scene, Sequence[Damage]], Coroutine[object, object, None]]

PHASES: Final[tuple[Phase, ...]] = (Scene.damaged_while_they_wait, Scene.damaged_while_they_run)
"""When the damage comes."""
