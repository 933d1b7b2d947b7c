"""What a claim costs beside a backlog: of jobs that are due, that are set for later, or that have ended."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from attrs import frozen

from benchmarks.contestants.ours import Convert, commands, url
from benchmarks.task import Answer, Task
from pannier import HandlerRegistry, JobQueues
from pannier.claims import Claim, Demand
from pannier.records import JobRecord, Payload
from pannier.settlements import Settlement, Succeeded

BATCH: Final = 100
CLAIMS: Final = 30
LATER: Final = timedelta(days=1)
LEASE: Final = timedelta(seconds=30)
STEP: Final = 1_000


@frozen
class _Bench:
    """The storage, and a queue in it."""

    jobs: JobQueues

    async def fill(self, count: int, *, execute_after: datetime | None = None, priority: int = 0) -> None:
        for first in range(0, count, STEP):
            await self.jobs.queue_jobs(
                commands(range(first, min(first + STEP, count))), execute_after=execute_after, priority=priority
            )

    async def claim(self, limit: int) -> Sequence[JobRecord]:
        asked = Claim(
            demands=(Demand(("Convert",), limit),),
            worker_id="benchmark",
            now=self.jobs.session.clock.now(),
            lease_for=LEASE,
            look_ahead=LEASE,
        )
        return (await self.jobs.storage.claim_jobs(asked)).jobs

    async def settle(self, jobs: Sequence[JobRecord]) -> None:
        settlements = [Settlement(job.lease, Succeeded(Payload(0))) for job in jobs]
        await self.jobs.storage.settle_jobs(settlements, now=self.jobs.session.clock.now())


def claims_waiting(task: Task) -> Answer:
    """Claim where many are due."""
    return asyncio.run(_claims(task, "waiting"))


def claims_scheduled(task: Task) -> Answer:
    """Claim where many more urgent ones are set for later."""
    return asyncio.run(_claims(task, "scheduled"))


def claims_finished(task: Task) -> Answer:
    """Claim where many have ended."""
    return asyncio.run(_claims(task, "finished"))


async def _claims(task: Task, backlog: str) -> Answer:
    handlers = HandlerRegistry()
    handlers.declare(Convert)
    async with JobQueues(url(task), handlers=handlers) as jobs:
        bench = _Bench(jobs)
        match backlog:
            case "waiting":
                await bench.fill(task.waiting)
            case "scheduled":
                await bench.fill(task.waiting, execute_after=jobs.session.clock.now() + LATER, priority=100)
            case _:
                await bench.fill(task.waiting)
                while ended := await bench.claim(STEP):
                    await bench.settle(ended)
        await bench.fill((CLAIMS + 5) * BATCH)
        return {"claim of 100 ms": median([await _time_claim(bench) for _ in range(CLAIMS)]) * 1e3}


async def _time_claim(bench: _Bench) -> float:
    started = time.perf_counter()
    claimed = await bench.claim(BATCH)
    seconds = time.perf_counter() - started
    if len(claimed) != BATCH:
        raise RuntimeError(f"{len(claimed)} jobs were claimed instead of {BATCH}")
    await bench.settle(claimed)
    return seconds
