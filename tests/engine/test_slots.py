"""Slots: how many handlers run at once, and when the next one starts."""

import asyncio
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from attrs import frozen

from pannier import Command, JobQueues, JobStatus, WorkerOptions
from tests.engine.conftest import play, until


@frozen
class Wait(Command[int]):
    """Waits for its gate."""

    number: int = 0


@frozen
class Other(Command[None]):
    """Another queue."""


class Gauge:
    """Counts how many run, and remembers the most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.started: list[int] = []

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


def test_never_more_than_max_concurrency_run_at_once(jobs: JobQueues) -> None:
    """E1: a queue's limit holds, however many jobs wait."""
    gauge = Gauge()

    @jobs.handler(max_concurrency=3)
    async def wait(command: Wait) -> int:
        with gauge:
            await asyncio.sleep(0.001)
        return command.number

    async def main() -> None:
        async with jobs.worker():
            ids = await jobs.queue_jobs([Wait(number) for number in range(60)])
            results = [await jobs.tracker(Wait).wait_for_result(tracking_id) for tracking_id in ids]
        assert results == list(range(60))

    play(main)
    assert gauge.most == 3


def test_a_freed_slot_is_refilled_without_waiting_for_the_rest(jobs: JobQueues) -> None:
    """E1: one job that never ends holds up one slot, not its batch."""
    gate, done = asyncio.Event(), []

    @jobs.handler(max_concurrency=2, prefetch=0)
    async def wait(command: Wait) -> int:
        if command.number == 0:
            await gate.wait()
        done.append(command.number)
        return command.number

    async def main() -> None:
        async with jobs.worker():
            await jobs.queue_jobs([Wait(number) for number in range(10)])
            await until(lambda: len(done) >= 9)
            gate.set()
        assert sorted(done) == list(range(10))

    play(main)


def test_handlers_share_no_context_variables(jobs: JobQueues) -> None:
    """What one handler sets in its context is not seen by another, though the first one's end starts the second."""
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    @jobs.handler(max_concurrency=1)
    async def wait(command: Wait) -> int:
        seen.append(tenant.get())
        tenant.set("somebody")
        await asyncio.sleep(0)
        return command.number

    async def main() -> None:
        async with jobs.worker():
            ids = await jobs.queue_jobs([Wait(number) for number in range(5)])
            for tracking_id in ids:
                await jobs.tracker(Wait).wait_for_result(tracking_id)

    play(main)
    assert seen == ["nobody"] * 5


def test_handlers_that_never_wait_leave_the_loop_to_others(jobs: JobQueues) -> None:
    """However quick handlers and storage are, whatever else runs on the loop gets its turn between two claims."""
    done: list[int] = []
    turns: list[int] = []

    @jobs.handler(max_concurrency=10, prefetch=0)
    async def wait(command: Wait) -> int:
        done.append(command.number)
        return command.number

    async def take_turns() -> None:
        while len(done) < 1_000:
            turns.append(len(done))
            await asyncio.sleep(0)

    async def main() -> None:
        async with jobs:
            await jobs.queue_jobs([Wait(number) for number in range(1_000)])
            async with jobs.worker():
                await take_turns()

    play(main)
    assert max(after - before for before, after in pairwise([*turns, len(done)])) <= 20


def test_a_limit_over_all_queues_holds(jobs: JobQueues) -> None:
    """`max_running` bounds the sum over all queues of a worker."""
    gauge = Gauge()

    @jobs.handler(max_concurrency=3)
    async def wait(command: Wait) -> int:
        with gauge:
            await asyncio.sleep(0.002)
        return command.number

    @jobs.handler(max_concurrency=3)
    async def other(command: Other) -> None:
        with gauge:
            await asyncio.sleep(0.002)

    async def main() -> None:
        async with jobs.worker(WorkerOptions(max_running=2)):
            ids = await jobs.queue_jobs([Wait(number) for number in range(15)])
            others = await jobs.queue_jobs([Other() for _ in range(15)])
            for tracking_id in ids:
                await jobs.tracker(Wait).wait_for_result(tracking_id)
            for tracking_id in others:
                await jobs.tracker(Other).wait_for_result(tracking_id)

    play(main)
    assert gauge.most == 2


def test_with_no_prefetch_nothing_is_claimed_ahead(jobs: JobQueues) -> None:
    """`prefetch=0`: what is RUNNING in the storage runs in a handler."""
    gate = asyncio.Event()

    @jobs.handler(max_concurrency=2, prefetch=0)
    async def wait(command: Wait) -> int:
        if command.number >= 20:
            await gate.wait()
        return command.number

    async def main() -> None:
        async with jobs.worker():
            ids = await jobs.queue_jobs([Wait(number) for number in range(30)])
            await jobs.tracker(Wait).wait_for_result(ids[19])
            await asyncio.sleep(0.1)
            found = [await jobs.tracker(Wait).get_job(tracking_id) for tracking_id in ids]
            running = [job for job in found if job is not None and job.status is JobStatus.RUNNING]
            assert len(running) == 2
            gate.set()

    play(main)


def test_a_due_job_starts_when_it_is_due_not_at_the_next_probe(jobs: JobQueues) -> None:
    """E7: a job that is due in the future starts within 50 ms of its time on an idle worker."""
    started: list[datetime] = []

    @jobs.handler()
    async def wait(command: Wait) -> int:
        started.append(datetime.now(UTC))
        return command.number

    async def main() -> None:
        async with jobs.worker(WorkerOptions(probe_every=timedelta(seconds=60))):
            due = datetime.now(UTC) + timedelta(milliseconds=300)
            tracking_id = await jobs.queue_job(Wait(1), execute_after=due)
            await jobs.tracker(Wait).wait_for_result(tracking_id)
        assert timedelta(0) <= started[0] - due < timedelta(milliseconds=50)

    play(main)


def test_higher_priority_starts_first(jobs: JobQueues) -> None:
    """Waiting jobs start by priority, then in the order in which they were queued."""
    order: list[int] = []

    @jobs.handler(max_concurrency=1)
    async def wait(command: Wait) -> int:
        order.append(command.number)
        return command.number

    async def main() -> None:
        async with jobs:
            await jobs.queue_jobs([Wait(3), Wait(4), Wait(5)])
            await jobs.queue_job(Wait(6), priority=-5)
            await jobs.queue_jobs([Wait(1), Wait(2)], priority=9)
            async with jobs.worker():
                await until(lambda: len(order) >= 6)

    play(main)
    assert order == [1, 2, 3, 4, 5, 6]


def test_a_worker_never_claims_from_a_queue_without_a_handler(jobs: JobQueues) -> None:
    """E10: what is only declared here waits for a worker that can execute it."""

    @jobs.handler()
    async def other(command: Other) -> None:
        return None

    jobs.declare(Wait)

    async def main() -> None:
        async with jobs.worker():
            waiting = await jobs.queue_job(Wait(1))
            done = await jobs.queue_job(Other())
            await jobs.tracker(Other).wait_for_result(done)
            job = await jobs.tracker(Wait).get_job(waiting)
            assert job is not None
            assert (job.status, job.fence) == (JobStatus.PENDING, 0)

    play(main)
