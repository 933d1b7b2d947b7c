"""A process of a simulation: a worker with its loops and threads, which may be frozen, killed, restarted."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from attrs import evolve

from pannier import JobQueues, WorkerOptions
from pannier.environment import Environment
from pannier.errors import StorageError
from pannier.storage import JobStorageProvider
from tests.engine.simulation import program
from tests.engine.simulation.journal import PROMPT, Journal
from tests.engine.simulation.loops import new_loop
from tests.engine.simulation.plugin import CODEC, QUIET, TALKATIVE, offered
from tests.engine.simulation.threads import VirtualThreads
from tests.engine.simulation.universe import State, Universe


class WallClock:
    """A machine's own clock, which may be wrong."""

    def __init__(self, universe: Universe, offset: timedelta) -> None:
        self._universe = universe
        self.offset = offset

    def now(self) -> datetime:
        """Tell the time, wrongly."""
        return self._universe.instant + self.offset


class Process:
    """
    One process. Serves as the `Place` of its runs.

    Attributes:
        jobs: Its job queues.
        wall: Its wall clock.
        started_at: When it was started.
        is_stopping: Whether its worker was left.
        opened_at: When its worker began to work.
        ended_at: When it has come to its end by itself.
        stop_asked_at: When it was asked to.
    """

    def __init__(
        self,
        *,
        universe: Universe,
        journal: Journal,
        name: str,
        make_storage: Callable[[], JobStorageProvider],
        options: WorkerOptions,
        offset: timedelta,
    ) -> None:
        self._universe = universe
        self._journal = journal
        self.name = name
        self.options = evolve(options, worker_id=name)
        self.state = State.ALIVE
        self.started_at = universe.now
        self.thawed_at = self.blocked_at = -1.0
        self.is_blocked = False
        self.stop_asked_at: float | None = None
        self.ended_at: float | None = None
        self.opened_at: float | None = None
        self.is_stopping = False
        self.slots = {
            queue: slots for queue, slots in program.SLOTS.items() if options.queues is None or queue in options.queues
        }
        self.limits = program.LIMITS
        self.wall = WallClock(universe, offset)
        self.loop = new_loop(universe, self, f"{name} worker")
        self.actor = program.Actor(universe, journal, self, self.kill)
        environment = Environment(
            wall=self.wall,
            seconds=lambda: universe.now,
            random=Random(universe.random.getrandbits(32)),
            threads=VirtualThreads(universe, self, name),
        )
        with offered(name, make_storage, universe.random.choice((QUIET, TALKATIVE))) as url:
            self.jobs = JobQueues(
                url,
                handlers=program.HANDLERS,
                middleware=[self.actor.outer, self.actor.inner],
                codec=CODEC,
                environment=environment,
            )
        self._stop = asyncio.Event()

    @property
    def is_gone(self) -> bool:
        """Whether it is dead, or has come to its end."""
        return self.state is State.DEAD or self.ended_at is not None

    def start(self) -> None:
        """Let it run."""
        self._journal.note(f"{self.name} starts")
        self.loop.begin(self._main(), self.name)

    def stop(self) -> None:
        """Ask it to stop in order."""
        self._journal.note(f"{self.name} is asked to stop")
        self.stop_asked_at = self._universe.now
        self.loop.call_soon(self._stop.set)

    def kill(self) -> None:
        """End it at once."""
        if self.state is not State.DEAD:
            self._journal.note(f"{self.name} is killed")
            if self.state is State.FROZEN:
                self.thawed_at = self._universe.now
            self.state = State.DEAD
            self._journal.died(self)

    def overrun(self) -> None:
        """End it because a handler outlives its lease, as `pannier worker` does."""
        self._journal.note(f"{self.name} ends itself")
        has_just_thawed = self._universe.now - self.thawed_at < PROMPT  # what overran may have ended in this instant
        runs = self._journal.runs_in(self)
        if not has_just_thawed and not any(run.is_stubborn or run.was_frozen or run.was_blocked for run in runs):
            self._journal.violated("E6", f"{self.name} ended itself although its handlers could have been stopped")
        self._journal.ledger.counts["ended themselves"] += 1
        self.kill()

    def exited(self) -> None:
        """End it because a handler has asked for that: nothing a handler raises may get so far."""
        self._journal.violated("E8", f"a handler has ended {self.name}")
        self.kill()

    def freeze(self) -> None:
        """Let it stand still."""
        if self.state is State.ALIVE:
            self._journal.note(f"{self.name} freezes")
            self.state = State.FROZEN

    def thaw(self) -> None:
        """Let it go on."""
        if self.state is State.FROZEN:
            self._journal.note(f"{self.name} thaws")
            self.state = State.ALIVE
            self.thawed_at = self._universe.now

    async def _main(self) -> None:
        try:
            async with self.jobs.worker(self.options, overrun=self.overrun) as worker:
                self.opened_at = self._universe.now
                stop = asyncio.create_task(self._stop.wait())
                failure = asyncio.create_task(worker.wait_until_failed())
                await asyncio.wait([stop, failure], return_when=asyncio.FIRST_COMPLETED)
                if failure.done():
                    self._journal.violated("E8", f"a part of {self.name} died: {failure.exception()!r}")
                failure.cancel()
                stop.cancel()
                self.is_stopping = True
        except StorageError as error:
            self._journal.note(f"{self.name} can't open its storage: {error}")
        except Exception as error:
            self._journal.violated("E8", f"{self.name} ended with {error!r}")
        finally:
            self.ended_at = self._universe.now
            self._journal.note(f"{self.name} has ended")
