"""The epilogue: in fair weather everything happens in time, and workers that are asked to stop do so in order."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from pannier import StopReason
from pannier.records import JobStatus
from pannier.settlements import Release
from tests.engine.simulation.journal import CLOCK_ERROR, Run
from tests.engine.simulation.program import SLOTS, Errand, Note, Script
from tests.engine.simulation.world import GRACE_SECONDS, LEASE_SECONDS, WORKERS, World

SOON: Final = CLOCK_ERROR + 0.1
"""What "at once" means here: the engine's 50 ms, a few round trips, and what the clocks may be wrong by."""

PROBE_SECONDS: Final = 2.0

HEARD: Final = {True: (1.0, StopReason.CANCELLED), False: (2.5, StopReason.LEASE_LOST)}
"""How soon a handler is told that its job was cancelled, and how: by push, or at the next renewal."""

CLEANUP_SECONDS: Final = 5.0
LONG_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 30.0


class Epilogue:
    """Told by the client's process once everything is mended and done."""

    def __init__(self, world: World, scripts: dict[UUID, Script]) -> None:
        self._world = world
        self._scripts = scripts

    async def tell(self) -> None:
        """Tell it."""
        await asyncio.sleep(LEASE_SECONDS + 1)
        await self._wait_for(lambda: len(self._world.able()) == WORKERS and self._world.is_settled_in())
        await self._due_jobs_start_in_time()
        await self._freed_slots_are_filled()
        await self._a_cancelled_handler_hears_of_it()
        await self._workers_stop_in_order()

    async def _due_jobs_start_in_time(self) -> None:
        """E7: one that is due now, and one that is due between two probes."""
        now = self._world.universe.now
        at_once = await self._queue(Script(seconds=0.01))
        later = await self._queue(Script(seconds=0.01), seconds=2.9)
        for tracking_id, due in ((at_once, now), (later, now + 2.9)):
            run = await self._run_of(tracking_id)
            if run is None or run.started > due + (SOON if self._world.pushes else PROBE_SECONDS + SOON):
                late = "never" if run is None else f"{run.started - due:.2f} s late"
                self._world.journal.violated("E7", f"{self._world.ledger.name(tracking_id)} started {late}")

    async def _freed_slots_are_filled(self) -> None:
        """E1: short jobs don't wait for a long one that was claimed with them."""
        now = self._world.universe.now
        long = [await self._queue(Script(seconds=8.0)) for _ in range(WORKERS)]
        short = [await self._queue(Script(seconds=0.1)) for _ in range(SLOTS["Errand"] * WORKERS + 2)]
        for tracking_id in short:
            run = await self._run_of(tracking_id)
            if run is None or run.started > now + 5 * SOON + (0.0 if self._world.pushes else PROBE_SECONDS):
                self._world.journal.violated("E1", f"{self._world.ledger.name(tracking_id)} waits for a free slot")
        runs = [run for tracking_id in long if (run := await self._run_of(tracking_id)) is not None]
        await self._wait_for(lambda: all(run.ended is not None for run in runs))

    async def _a_cancelled_handler_hears_of_it(self) -> None:
        """E2: within a second, where the storage pushes."""
        tracking_id = await self._queue(Script(seconds=LONG_SECONDS))
        run = await self._run_of(tracking_id)
        if run is None:
            return
        await self._world.client.jobs.cancel_job(tracking_id)
        cancelled_at = self._world.universe.now
        seconds, reason = HEARD[self._world.pushes]
        await self._wait_for(lambda: run.ended is not None, seconds=seconds)
        if run.told is not reason or run.told_at > cancelled_at + seconds:
            self._world.journal.violated("E2", f"#{run.number} was not told in time that its job was cancelled")

    async def _workers_stop_in_order(self) -> None:
        """E5: running handlers get their grace, then they are stopped and their jobs given back."""
        jobs = [await self._queue(Script(seconds=LONG_SECONDS)) for _ in range(WORKERS)]
        runs = [run for tracking_id in jobs if (run := await self._run_of(tracking_id)) is not None]
        self._world.is_closing = True
        for worker in self._world.workers:
            worker.stop()
        await asyncio.sleep(GRACE_SECONDS - CLOCK_ERROR)
        for run in runs:
            if run.told is not None:
                self._world.journal.violated("E5", f"#{run.number} got no grace")
        await self._wait_for(lambda: all(worker.is_gone for worker in self._world.workers), seconds=CLEANUP_SECONDS)
        for worker in self._world.workers:
            if not worker.is_gone:
                self._world.journal.violated("E5", f"{worker.name} does not come to its end")
        for run in runs:
            await self._judge_given_back(run)

    async def _judge_given_back(self, run: Run) -> None:
        tracking_id = run.grant.lease.tracking_id
        job = await self._world.truth.get_job(tracking_id)
        is_unburnt = job is not None and job.status is JobStatus.PENDING and job.attempt == 0
        if not (is_unburnt and isinstance(run.grant.outcome, Release)):
            self._world.journal.violated("E5", f"{self._world.ledger.name(tracking_id)} was not given back unused")
        await self._world.client.jobs.cancel_job(tracking_id)

    async def _queue(self, script: Script, *, seconds: float = 0.0) -> UUID:
        jobs = self._world.client.jobs
        kind = Note if script.seconds < 0.1 else Errand
        job = jobs.create_job(
            kind(script), execute_after=self._world.universe.instant + timedelta(seconds=seconds), expire_on=None
        )
        self._scripts[job.tracking_id] = script
        await jobs.queue_jobs([job])
        return job.tracking_id

    async def _run_of(self, tracking_id: UUID) -> Run | None:
        """Wait until the job runs, and return its run."""

        def found() -> Run | None:
            grant = self._world.ledger.jobs[tracking_id].latest
            return None if grant is None else grant.run

        await self._wait_for(found)
        return found()

    async def _wait_for(self, condition: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
        end = self._world.universe.now + seconds
        while not condition() and self._world.universe.now < end:  # noqa: ASYNC110  # on virtual time
            await asyncio.sleep(0.05)
