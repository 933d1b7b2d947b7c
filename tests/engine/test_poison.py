"""Poison pills: a job whose worker dies three times in a row is condemned, and only that one (E14)."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve, frozen

from pannier import Command, JobFailedError, JobQueues, JobStatus, RetryPolicy
from pannier.claims import Claim, Demand
from pannier.inspection import JobFilter
from pannier.records import JobRecord
from tests.engine.conftest import OFTEN, play, until
from tests.engine.troubled import TroubledStorage


@frozen
class Work(Command[int]):
    """Has a number."""

    number: int = 0


@frozen
class Long(Command[None]):
    """Takes hours."""


@frozen
class Other(Command[None]):
    """Another queue."""


def mortal_claim(now: datetime) -> Claim:
    """Return what a worker asks for that dies at once."""
    return Claim(
        demands=(Demand(("Work",), 100),),
        worker_id="mortal",
        now=now,
        lease_for=timedelta(microseconds=1),
        look_ahead=timedelta(0),
    )


async def store_with_two_lapses(jobs: JobQueues) -> UUID:
    """Store a job whose worker died twice, in one step: nobody claims it in between."""
    inner = jobs.storage
    job = jobs.create_job(Work(), execute_after=jobs.session.clock.now() + timedelta(milliseconds=200))
    await inner.store_jobs([job])
    for attempt in range(2):
        await inner.claim_jobs(mortal_claim(job.execute_after + timedelta(microseconds=attempt)))
    jobs.trigger_job_execution(Work)
    return job.tracking_id


async def let_workers_die(jobs: JobQueues, times: int) -> None:
    """Claim everything that is due, *times* in a row, and let the leases lapse."""
    for _ in range(times):
        await jobs.storage.claim_jobs(mortal_claim(jobs.session.clock.now()))
        await asyncio.sleep(0.001)


def test_a_job_whose_worker_died_three_times_is_failed_without_running(jobs: JobQueues) -> None:
    """E14: the fourth claim finds 3 lapses."""
    runs: list[int] = []

    @jobs.handler()
    async def work(command: Work) -> int:
        runs.append(command.number)
        return command.number

    async def main() -> None:
        async with jobs:
            tracking_id = await jobs.queue_job(Work())
            await let_workers_die(jobs, 3)
            async with jobs.worker(OFTEN):
                with pytest.raises(JobFailedError, match="died three times in a row"):
                    await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert runs == []


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_job_whose_worker_died_less_often_runs(jobs: JobQueues, deaths: int) -> None:
    """E14: and burns none of its own tries."""
    attempts: list[int] = []

    @jobs.handler(retry=RetryPolicy(max_attempts=2, first_delay=timedelta(0)))
    async def work(command: Work) -> int:
        attempts.append(command.number)
        if len(attempts) == 1:
            raise ValueError("the first try of two")
        return 7

    async def main() -> None:
        async with jobs:
            tracking_id = await jobs.queue_job(Work())
            await let_workers_die(jobs, deaths)
            async with jobs.worker(OFTEN):
                assert await jobs.tracker(Work).wait_for_result(tracking_id) == 7

    play(main)
    assert len(attempts) == 2


def test_the_last_chance_is_a_run_alone(jobs: JobQueues) -> None:
    """E14: nothing runs beside a job with two lapses, and nothing waits here leased."""
    beside: list[tuple[int, int]] = []
    running: set[int] = set()

    @jobs.handler(max_concurrency=4)
    async def work(command: Work) -> int:
        running.add(command.number)
        if command.number == 0:
            leased = [job for job in await _all(jobs) if job.status is JobStatus.RUNNING]
            beside.append((len(running), len(leased)))
        await asyncio.sleep(0.02)
        running.discard(command.number)
        return command.number

    async def main() -> None:
        async with jobs:
            await jobs.queue_job(Work(0))
            await let_workers_die(jobs, 2)
            ids = await jobs.queue_jobs([Work(number) for number in range(1, 20)])
            async with jobs.worker(OFTEN):
                for tracking_id in ids:
                    await jobs.tracker(Work).wait_for_result(tracking_id)
                await until(lambda: beside)

    play(main)
    assert beside == [(1, 1)]


def test_all_of_several_that_died_with_one_worker_run_one_after_the_other(jobs: JobQueues) -> None:
    """E14: of five jobs with two lapses each, no two run at the same time, and all have their chance."""
    most, running = 0, 0

    @jobs.handler(max_concurrency=4)
    async def work(command: Work) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return command.number

    async def main() -> None:
        async with jobs:
            ids = await jobs.queue_jobs([Work(number) for number in range(5)])
            await let_workers_die(jobs, 2)
            async with jobs.worker(OFTEN):
                results = [await jobs.tracker(Work).wait_for_result(tracking_id) for tracking_id in ids]
        assert results == list(range(5))

    play(main)
    assert most == 1


def test_what_has_newly_lapsed_is_not_started_one_by_one(jobs: JobQueues) -> None:
    """E14: jobs whose worker died once may run side by side, so a last chance before them lets them through."""
    alone, running = set[int](), set[int]()

    @jobs.handler(max_concurrency=3)
    async def work(command: Work) -> int:
        running.add(command.number)
        if len(running) == 1:
            alone.add(command.number)
        else:
            alone.difference_update(running)
        await asyncio.sleep(0.005)
        running.discard(command.number)
        return command.number

    async def main() -> None:
        async with jobs:
            ids = [await jobs.queue_job(Work(0))]
            await let_workers_die(jobs, 1)
            ids += await jobs.queue_jobs([Work(number) for number in range(1, 25)])
            await let_workers_die(jobs, 1)
            async with jobs.worker(OFTEN):
                for tracking_id in ids:
                    await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert 0 in alone
    assert len(alone) <= 5  # the last chance, the one that its turn began with, and what was left for a last claim


def test_what_is_claimed_with_a_last_chance_goes_on(jobs: JobQueues) -> None:
    """E14: it is the last chance that is given back, not the others, each time anew."""

    @jobs.handler(max_concurrency=2)
    async def work(command: Work) -> int:
        await asyncio.sleep(0.01)
        return command.number

    @jobs.handler(max_concurrency=4)
    async def other(command: Other) -> None:
        return None

    async def main() -> None:
        async with jobs:
            last_chances = await jobs.queue_jobs([Work(number) for number in range(2)])
            await let_workers_die(jobs, 2)
            others = await jobs.queue_jobs([Other() for _ in range(20)])
            async with jobs.worker(OFTEN):
                for tracking_id in last_chances:
                    await jobs.tracker(Work).wait_for_result(tracking_id)
                for tracking_id in others:
                    await jobs.tracker(Other).wait_for_result(tracking_id)
            fences = {job.tracking_id: job.fence for job in await _all(jobs)}
            assert {fences[tracking_id] for tracking_id in others} == {1}

    play(main)


def test_a_last_chance_waits_nowhere(jobs: JobQueues) -> None:
    """E14: one that can't be alone is given back at once, or it would die with the next worker, without its chance."""
    gate = asyncio.Event()

    @jobs.handler(max_concurrency=4)
    async def work(command: Work) -> int:
        return command.number

    @jobs.handler()
    async def long(command: Long) -> None:
        await gate.wait()

    async def main() -> None:
        an_hour = timedelta(hours=1)
        async with jobs, jobs.worker(evolve(OFTEN, lease_for=an_hour, renew_every=an_hour / 3)) as worker:
            await jobs.queue_job(Long())
            await until(lambda: worker.running == 1)
            last_chance = await store_with_two_lapses(jobs)
            await until(lambda: _is_given_back(jobs, last_chance))
            gate.set()
            assert await jobs.tracker(Work).wait_for_result(last_chance) == 0

    play(main)


def test_a_worker_whose_handlers_take_long_goes_on_without_the_lane(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E14: a last chance that can't be alone here is not claimed again and again, and other queues are worked on."""
    gate = asyncio.Event()

    @troubled.handler(max_concurrency=4)
    async def work(command: Work) -> int:
        return command.number

    @troubled.handler()
    async def long(command: Long) -> None:
        await gate.wait()

    @troubled.handler()
    async def other(command: Other) -> None:
        return None

    async def main() -> None:
        async with troubled, troubled.worker(OFTEN) as worker:
            await troubled.queue_job(Long())
            await until(lambda: worker.running == 1)
            last_chance = await store_with_two_lapses(troubled)
            await until(lambda: _is_given_back(troubled, last_chance))
            claims = storage.calls["claim_jobs"]
            await troubled.tracker(Other).wait_for_result(await troubled.queue_job(Other()))
            assert storage.calls["claim_jobs"] - claims < 20
            gate.set()
            assert await troubled.tracker(Work).wait_for_result(last_chance) == 0

    play(main)


def test_a_job_that_was_in_a_dead_worker_is_never_held_ahead(jobs: JobQueues) -> None:
    """E14: it starts at once or is given back at once, without being asked for again and again."""
    gate = asyncio.Event()

    @jobs.handler(max_concurrency=2)
    async def work(command: Work) -> int:
        await gate.wait()
        return command.number

    async def main() -> None:
        async with jobs:
            ids = await jobs.queue_jobs([Work(number) for number in range(6)])
            await let_workers_die(jobs, 1)
            async with jobs.worker(evolve(OFTEN, max_running=2)) as worker:
                await until(lambda: worker.running == 2)
                await asyncio.sleep(0.2)
                found = await _all(jobs)
                assert sum(job.status is JobStatus.RUNNING and job.worker_id != "mortal" for job in found) == 2
                assert max(job.fence for job in found) <= 3
                gate.set()
                for tracking_id in ids:
                    await jobs.tracker(Work).wait_for_result(tracking_id)

    play(main)


async def _all(jobs: JobQueues) -> tuple[JobRecord, ...]:
    inspector = jobs.session.inspector
    assert inspector is not None
    return (await inspector.find_jobs(JobFilter())).jobs


async def _is_given_back(jobs: JobQueues, tracking_id: UUID) -> bool:
    job = await jobs.storage.get_job(tracking_id)
    return job is not None and job.status is JobStatus.PENDING and job.fence > 2
