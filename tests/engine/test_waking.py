"""Waking: what makes a worker ask the storage, and what does not (E1, E7)."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest
from attrs import evolve, frozen

from pannier import Command, JobQueues, JobStatus, RetryPolicy, WorkerOptions
from pannier.claims import Claim, Demand
from pannier.inspection import JobFilter
from tests.engine.conftest import play, until
from tests.engine.troubled import TroubledStorage

PATIENT = WorkerOptions(probe_every=timedelta(seconds=60), purge_every=None)


@frozen
class Work(Command[int]):
    """Has a number."""

    number: int = 0


@frozen
class Other(Command[None]):
    """Another queue."""


def test_a_full_queue_with_a_backlog_does_not_make_the_worker_ask_for_ever(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E1: what is due in a queue without a free slot is no reason to ask about another queue."""
    gate = asyncio.Event()

    @troubled.handler(max_concurrency=1)
    async def work(command: Work) -> int:
        await gate.wait()
        return command.number

    @troubled.handler()
    async def other(command: Other) -> None:
        return None

    async def main() -> None:
        async with troubled.worker(PATIENT) as worker:
            await troubled.queue_jobs([Work(number) for number in range(5)])
            await until(lambda: worker.running == 1)
            await asyncio.sleep(0.05)
            before = storage.calls["claim_jobs"]
            await asyncio.sleep(0.3)
            assert storage.calls["claim_jobs"] - before <= 1
            gate.set()

    play(main)


def test_a_queue_beside_a_full_one_wakes_when_its_own_job_is_due(troubled: JobQueues, storage: TroubledStorage) -> None:
    """E7: the backlog of one queue hides no due instant of another."""
    storage.pushes = False
    gate = asyncio.Event()

    @troubled.handler(max_concurrency=1)
    async def work(command: Work) -> int:
        await gate.wait()
        return command.number

    @troubled.handler()
    async def other(command: Other) -> None:
        return None

    async def main() -> None:
        async with troubled:
            await troubled.queue_jobs([Work(number) for number in range(5)])
            due = troubled.session.clock.now() + timedelta(milliseconds=300)
            later = await troubled.queue_job(Other(), execute_after=due)
            async with troubled.worker(PATIENT):
                await troubled.tracker(Other).wait_for_result(later, timeout=timedelta(seconds=2))
                gate.set()

    play(main)


def test_a_retry_is_found_when_it_is_due_where_nothing_is_pushed(troubled: JobQueues, storage: TroubledStorage) -> None:
    """E7: the worker knows what it settled itself; it needs no hint and no probe for that."""
    storage.pushes = False
    tries: list[int] = []

    @troubled.handler(retry=RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=50)))
    async def work(command: Work) -> int:
        tries.append(command.number)
        if len(tries) < 3:
            raise ValueError("not yet")
        return 7

    async def main() -> None:
        async with troubled.worker(PATIENT):
            tracking_id = await troubled.queue_job(Work())
            assert await troubled.tracker(Work).wait_for_result(tracking_id, timeout=timedelta(seconds=5)) == 7

    play(main)


def test_a_lapsed_lease_of_a_dead_worker_is_found_when_it_ends(troubled: JobQueues, storage: TroubledStorage) -> None:
    """E7: a killed worker's jobs start again when their lease has lapsed, not at the next probe."""
    runs: list[float] = []

    @troubled.handler()
    async def work(command: Work) -> int:
        runs.append(asyncio.get_running_loop().time())
        return command.number

    async def main() -> None:
        async with troubled:
            await troubled.queue_job(Work())
            claim = Claim(
                demands=(Demand(("Work",), 1),),
                worker_id="mortal",
                now=troubled.session.clock.now(),
                lease_for=timedelta(milliseconds=400),
                look_ahead=timedelta(0),
            )
            await storage.claim_jobs(claim)
            began = asyncio.get_running_loop().time()
            async with troubled.worker(PATIENT):
                await until(lambda: runs)
        assert 0.3 < runs[0] - began < 0.6

    play(main)


def test_a_job_queued_elsewhere_is_found_by_push(jobs: JobQueues, url: str) -> None:
    """E7: another instance stores it behind this worker's back."""
    started: list[int] = []

    @jobs.handler()
    async def work(command: Work) -> int:
        started.append(command.number)
        return command.number

    async def main() -> None:
        async with jobs.worker(PATIENT):
            await queue_elsewhere(url)
            await until(lambda: started)

    play(main)


def test_jobs_claimed_ahead_of_a_stalled_queue_are_given_to_others(jobs: JobQueues) -> None:
    """What waits behind jobs that turned out long is pending again after a second or two."""
    gate = asyncio.Event()
    runs: list[int] = []

    @jobs.handler(max_concurrency=2)
    async def work(command: Work) -> int:
        runs.append(command.number)
        if len(runs) > 100:
            await gate.wait()
        return command.number

    async def main() -> None:
        async with jobs.worker(PATIENT) as worker:
            await jobs.queue_jobs([Work(number) for number in range(300)])
            await until(lambda: len(runs) >= 102)
            await until(lambda: _leased(jobs, exactly=2))
            assert worker.running == 2
            gate.set()

    play(main)


def test_a_limit_over_all_queues_starves_none(troubled: JobQueues) -> None:
    """With one slot for two queues, a backlog of the one does not keep the other from starting."""
    order: list[str] = []

    @troubled.handler(prefetch=0)
    async def work(command: Work) -> int:
        order.append("work")
        await asyncio.sleep(0.001)
        return command.number

    @troubled.handler(prefetch=0)
    async def other(command: Other) -> None:
        order.append("other")

    async def main() -> None:
        async with troubled:
            await troubled.queue_jobs([Work(number) for number in range(200)])
            await troubled.queue_jobs([Other() for _ in range(20)])
            async with troubled.worker(evolve(PATIENT, max_running=1)):
                await until(lambda: len(order) == 220)

    play(main)
    assert order.index("other") < 10
    assert order[:100].count("other") == 20


def test_listening_goes_on_for_queues_that_were_registered_later(jobs: JobQueues, url: str) -> None:
    """Push covers a command that became known after somebody had begun to listen."""
    runs: list[int] = []

    @jobs.handler()
    async def other(command: Other) -> None:
        return None

    async def main() -> None:
        async with jobs:
            done = await jobs.queue_job(Other())
            with pytest.raises(TimeoutError):
                await jobs.tracker(Other).wait_for_result(done, timeout=timedelta(milliseconds=50))

            @jobs.handler()
            async def work(command: Work) -> int:
                runs.append(command.number)
                return command.number

            async with jobs.worker(PATIENT):
                await queue_elsewhere(url)
                await until(lambda: runs)

    play(main)


async def queue_elsewhere(url: str) -> None:
    """Queue a job through another instance of the storage, once whoever listens has had time to begin."""
    await asyncio.sleep(0.1)
    elsewhere = JobQueues(url)
    elsewhere.declare(Work)
    async with elsewhere:
        await elsewhere.queue_job(Work(5))


async def _leased(jobs: JobQueues, *, exactly: int) -> bool:
    inspector = jobs.session.inspector
    assert inspector is not None
    counts = await inspector.count_jobs(JobFilter(statuses=frozenset({JobStatus.RUNNING})))
    return sum(counts.values()) == exactly


def test_a_worker_asks_less_and_less_often_for_what_others_hold(troubled: JobQueues, storage: TroubledStorage) -> None:
    """A lapsed lease that an open transaction holds is due all the time; nobody asks 200 times a second for it."""
    storage.passes_over = True

    @troubled.handler()
    async def work(command: Work) -> int:
        return command.number

    async def main() -> None:
        async with troubled.worker(PATIENT):
            await until(lambda: len(storage.claims) > 8)
            pauses = [after.now - before.now for before, after in pairwise(storage.claims[-4:])]
            assert min(pauses) > timedelta(milliseconds=100)

    play(main)


def test_a_hint_ends_the_wait_for_what_others_hold(
    troubled: JobQueues, storage: TroubledStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is queued meanwhile starts at once, as on an idle worker."""
    monkeypatch.setattr("pannier.worker.dispatcher.CONTENDED_PAUSE", timedelta(hours=1))
    storage.passes_over = True

    @troubled.handler()
    async def work(command: Work) -> int:
        return command.number

    async def main() -> None:
        async with troubled.worker(PATIENT):
            await until(lambda: storage.claims)
            storage.passes_over = False
            tracking_id = await troubled.queue_job(Work(7))
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == 7

    play(main)
