"""Leases: renewed while a handler runs, given up before they end, never the ground for two runs at once (E6, E13)."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve, frozen

from pannier import Command, JobContext, JobQueues, JobStatus, StopReason
from pannier.settlements import Release
from tests.engine.conftest import OFTEN, SHORT_LEASES, play, until
from tests.engine.troubled import Fault, TroubledStorage

LONGER = evolve(SHORT_LEASES, lease_for=timedelta(seconds=2))
"""A lease that a machine which stands still for a second doesn't take from a worker: it has no promise to break."""

LEASE_SECONDS = SHORT_LEASES.lease_for.total_seconds()


@frozen
class Work(Command[str]):
    """Runs for a while."""


class Runs:
    """Counts the runs of one job, and how many of them overlap."""

    def __init__(self) -> None:
        self.count = self.most = self._now = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[int]:
        """Be one run; gives its number."""
        with self._lock:
            self.count += 1
            self._now += 1
            self.most = max(self.most, self._now)
            number = self.count
        try:
            yield number
        finally:
            with self._lock:
                self._now -= 1


async def down() -> None:
    """Fail, as long as this stands before a verb."""
    raise ConnectionRefusedError


def test_a_job_that_outlasts_its_lease_runs_once(jobs: JobQueues) -> None:
    """Leases are renewed for as long as the handler runs."""
    runs = Runs()

    @jobs.handler()
    async def work(command: Work) -> str:
        with runs.one():
            await asyncio.sleep(1.5 * LONGER.lease_for.total_seconds())
        return "done"

    async def main() -> None:
        async with jobs.worker(LONGER):
            tracking_id = await jobs.queue_job(Work())
            assert await jobs.tracker(Work).wait_for_result(tracking_id) == "done"

    play(main)
    assert runs.count == 1


def test_a_handler_whose_lease_cannot_be_renewed_is_stopped_before_it_ends(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E6: a third of a lease before its end at the latest; the job is released when the storage answers."""
    stopped: list[tuple[StopReason | None, float]] = []

    @troubled.handler()
    async def work(command: Work, job: JobContext[str]) -> str:
        if stopped:
            return "second run"
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(10)
        finally:
            stopped.append((job.stop.reason, asyncio.get_running_loop().time() - began))
            del storage.before["renew_leases"]
        return "first run"

    storage.before["renew_leases"] = down

    async def main() -> None:
        async with troubled.worker(SHORT_LEASES):
            tracking_id = await troubled.queue_job(Work())
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "second run"
            job = await troubled.tracker(Work).get_job(tracking_id)
        assert job is not None
        assert (job.attempt, job.lapses) == (1, 0)

    play(main)
    [(reason, seconds)] = stopped
    assert reason is StopReason.LEASE_ENDING
    assert seconds < LEASE_SECONDS


def test_a_renewal_that_never_answers_is_no_reason_to_overlook_the_end(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E6: the ends of leases are looked at while a renewal hangs."""
    stopped: list[float] = []

    @troubled.handler()
    async def work(command: Work) -> str:
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(10)
        finally:
            stopped.append(asyncio.get_running_loop().time() - began)
        return "late"

    async def hang() -> None:
        await asyncio.Event().wait()

    storage.before["renew_leases"] = hang

    async def main() -> None:
        async with troubled.worker(SHORT_LEASES):
            await troubled.queue_job(Work())
            await until(lambda: stopped)

    play(main)
    assert stopped[0] < LEASE_SECONDS


def test_a_renewal_that_failed_is_tried_again_before_the_lease_ends(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E6: one lost renewal loses no lease."""
    storage.before["renew_leases"] = Fault(2)
    runs = Runs()

    @troubled.handler()
    async def work(command: Work) -> str:
        with runs.one():
            await asyncio.sleep(2 * LEASE_SECONDS)
        return "done"

    async def main() -> None:
        async with troubled.worker(SHORT_LEASES):
            tracking_id = await troubled.queue_job(Work())
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "done"

    play(main)
    assert runs.count == 1


def test_a_handler_that_outlives_its_lease_is_reported(
    troubled: JobQueues, storage: TroubledStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """E6: what can't be stopped is said aloud before the lease ends, and the program may decide."""
    started, overrun, gate = threading.Event(), threading.Event(), threading.Event()

    @troubled.handler()
    def work(command: Work) -> str:
        started.set()
        gate.wait(10)
        return "late"

    storage.before["renew_leases"] = down

    async def main() -> None:
        async with troubled.worker(SHORT_LEASES, overrun=overrun.set):
            await troubled.queue_job(Work())
            await until(started.is_set)
            storage.before["claim_jobs"] = down  # or a worker whose keeper comes late leases its own job anew
            await until(overrun.is_set)
            gate.set()
            storage.before.clear()

    play(main)
    assert "outlives its lease" in caplog.text


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_is_still_running_here_is_never_started_beside_itself(
    troubled: JobQueues, storage: TroubledStorage, times: int
) -> None:
    """E13: its own lapsed lease, taken over by the same worker, cancels the old run; the new one waits for its end."""
    runs = Runs()
    gate = threading.Event()

    @troubled.handler(max_concurrency=4)
    def work(command: Work) -> str:
        with runs.one() as number:
            if number == 1:
                gate.wait(10)
        return f"run {number}"

    async def main() -> None:
        async with troubled:
            tracking_id = await troubled.queue_job(Work())
            async with troubled.worker(OFTEN):
                await until(lambda: runs.count == 1)
                storage.before["renew_leases"] = down
                await until(lambda: _fence_of(storage, tracking_id, at_least=1 + times))
                del storage.before["renew_leases"]
                gate.set()
                assert await troubled.tracker(Work).wait_for_result(tracking_id) == "run 2"

    play(main)
    assert (runs.count, runs.most) == (2, 1)


def test_a_job_whose_lease_was_lost_while_it_waited_for_its_old_run_is_not_started(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E2, E13: cancelled meanwhile, it never runs again."""
    runs = Runs()
    gate = threading.Event()

    @troubled.handler(max_concurrency=4)
    def work(command: Work) -> str:
        with runs.one():
            gate.wait(10)
        return "done"

    async def main() -> None:
        async with troubled:
            tracking_id = await troubled.queue_job(Work())
            async with troubled.worker(OFTEN):
                await until(lambda: runs.count == 1)
                storage.before["renew_leases"] = down
                await until(lambda: _fence_of(storage, tracking_id, at_least=2))
                del storage.before["renew_leases"]
                await troubled.tracker(Work).cancel_job(tracking_id)
                await asyncio.sleep(0.1)
                gate.set()
                await asyncio.sleep(0.1)
            job = await troubled.tracker(Work).get_job(tracking_id)
        assert job is not None
        assert job.status is JobStatus.CANCELLED

    play(main)
    assert runs.count == 1


def test_a_job_lost_to_another_worker_is_not_started_here_while_its_old_thread_runs(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E13: also where the lease was refused first, so that the worker holds the job no more."""
    runs = Runs()
    gate = threading.Event()

    @troubled.handler(max_concurrency=4)
    def work(command: Work) -> str:
        with runs.one() as number:
            if number == 1:
                gate.wait(10)
        return f"run {number}"

    async def main() -> None:
        async with troubled:
            tracking_id = await troubled.queue_job(Work())
            async with troubled.worker(OFTEN):
                await until(lambda: runs.count == 1)
                await troubled.tracker(Work).cancel_job(tracking_id)
                await asyncio.sleep(0.1)
                inspector, now = troubled.session.inspector, troubled.session.clock.now()
                assert inspector is not None
                await inspector.requeue_job(tracking_id, now=now, expire_on=None)
                await until(lambda: _fence_of(storage, tracking_id, at_least=3))
                await asyncio.sleep(0.1)
                assert runs.count == 1
                gate.set()
                assert await troubled.tracker(Work).wait_for_result(tracking_id) == "run 2"

    play(main)
    assert runs.most == 1


def test_a_blocked_loop_costs_no_second_run_where_nobody_else_claims(troubled: JobQueues) -> None:
    """E6: after the loop was blocked, lapsed leases are renewed before anything is claimed."""
    runs = Runs()

    @troubled.handler(max_concurrency=4)
    async def work(command: Work) -> str:
        with runs.one():
            threading.Event().wait(2 * LEASE_SECONDS)
            await asyncio.sleep(0.2)
        return "done"

    async def main() -> None:
        async with troubled.worker(OFTEN):
            tracking_id = await troubled.queue_job(Work())
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "done"

    play(main)
    assert runs.count == 1


async def _fence_of(storage: TroubledStorage, tracking_id: UUID, *, at_least: int) -> bool:
    job = await storage.get_job(tracking_id)
    return job is not None and job.fence >= at_least


@pytest.mark.parametrize("late", [0.9, 1.2])
def test_a_job_whose_claim_is_answered_around_the_end_of_its_lease_is_not_started(
    troubled: JobQueues, storage: TroubledStorage, late: float
) -> None:
    """E6: somebody else may run it, or is about to; it is given back, no attempt burnt, and claimed again."""
    runs: list[int] = []

    @troubled.handler()
    async def work(_: Work, job: JobContext[str]) -> str:
        runs.append(job.attempt)
        return "done"

    async def answer_late_once() -> None:
        del storage.after["claim_jobs"]
        await asyncio.sleep(late * LEASE_SECONDS)

    async def main() -> None:
        storage.after["claim_jobs"] = answer_late_once
        async with troubled:
            tracking_id = await troubled.queue_job(Work())
            async with troubled.worker(SHORT_LEASES):
                await troubled.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert runs == [1]
    assert isinstance(storage.settlements[0].outcome, Release)


def test_a_job_whose_lease_lapsed_while_it_waited_for_a_slot_is_not_started(
    troubled: JobQueues, storage: TroubledStorage
) -> None:
    """E6: a process that stood still, or a blocked loop, wakes with jobs that others may run by now."""
    left: list[timedelta] = []

    @troubled.handler(max_concurrency=1)
    async def work(_: Work, job: JobContext[str]) -> str:
        found = await storage.get_job(job.tracking_id)
        assert found is not None
        left.append(found.dequeue_after - datetime.now(UTC))
        if len(left) == 60:
            threading.Event().wait(1.5 * LEASE_SECONDS)
        return "done"

    async def main() -> None:
        async with troubled:
            ids = await troubled.queue_jobs([Work() for _ in range(120)])
            async with troubled.worker(SHORT_LEASES):
                for tracking_id in ids:
                    await troubled.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert min(left) > timedelta(0)
    assert any(isinstance(settlement.outcome, Release) for settlement in storage.settlements)
