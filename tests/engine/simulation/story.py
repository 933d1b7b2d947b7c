"""The story of one simulation: what is queued, what is cancelled, what breaks, and how it all is mended again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

from attrs import evolve

from pannier import Command
from pannier.records import JobRecord, Payload
from tests.engine.simulation.epilogue import Epilogue
from tests.engine.simulation.journal import Run
from tests.engine.simulation.program import COMMANDS, Chore, Errand, Fashion, Script
from tests.engine.simulation.storage import UNREADABLE
from tests.engine.simulation.universe import State
from tests.engine.simulation.weather import CALM, GUSTY, OUTAGES
from tests.engine.simulation.world import LEASE_SECONDS, World

T = TypeVar("T")

LEAST_FAULTS: Final = 5
LEAST_LAPSES: Final = 3
LEAST_CANCELS: Final = 3
HEALING_SECONDS: Final = 300.0

VERBS: Final = (
    frozenset({"claim_jobs"}),
    frozenset({"settle_jobs"}),
    frozenset({"renew_leases"}),
    frozenset({"store_progress", "get_job_result", "get_job"}),
    frozenset({"listen"}),
    None,
    None,
)


HARMLESS: Final = [fashion for fashion in Fashion if fashion is not Fashion.KILL]


class Story:
    """
    One seed's story, told by the client's process.

    Attributes:
        acknowledged: The jobs whose storing was answered.
        scripts: What their handlers were told to do.
        attempted: The jobs that somebody tried to cancel.
        keys: The id that stands, by queue and key.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.universe.random
        self.acknowledged: dict[UUID, JobRecord] = {}
        self.scripts: dict[UUID, Script] = {}
        self.attempted: set[UUID] = set()
        self.keys: dict[tuple[str, str], UUID] = {}
        self._background: dict[asyncio.Task[None], None] = {}

    async def tell(self) -> None:
        """Tell it, from the beginning to the end."""
        try:
            await self._tell()
        except Exception as error:  # a fault of the story's own must not look like a quiet end
            self._world.journal.violated("E8", f"the story ended with {error!r}")

    async def _tell(self) -> None:
        await self._world.truth.open()
        async with self._world.client.jobs:
            for worker in self._world.workers:
                worker.start()
            self._begin(self._supervise())
            await self._live()
            await self._mend()
            await Epilogue(self._world, self.scripts).tell()
            for task in tuple(self._background):
                task.cancel()

    # -- acts ----------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Let things happen until enough has happened."""
        acts: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._queue_some, 6),
            (self._cancel_running, 4),
            (self._cancel_any, 1),
            (self._requeue, 2),
            (self._strand, 1),
            (self._kill_at_second_try, 1),
            (self._gust, 3),
            (self._cut_off, 2),
            (self._kill, 2),
            (self._freeze, 2),
            (self._retire, 1),
            (self._step_clock, 1),
            (self._execute_at_once, 1),
        ]
        chosen = [act for act, _ in acts]
        weights = [weight for _, weight in acts]
        await self._queue_some()
        for _ in range(10):
            await asyncio.sleep(self._random.random() * 1.5)
            [act] = self._random.choices(chosen, weights)
            await act()
        end = self._world.universe.now + HEALING_SECONDS
        while (missing := self._missing()) and self._world.universe.now < end:
            await self._queue_some()
            await asyncio.sleep(0.5)
            await missing[0]()

    def _missing(self) -> list[Callable[[], Awaitable[None]]]:
        counts = self._world.ledger.counts
        missing: list[Callable[[], Awaitable[None]]] = []
        if self._world.weather.fired.total() < LEAST_FAULTS:
            missing.append(self._gust)
        if counts["cancelled while running"] < LEAST_CANCELS:
            missing.append(self._cancel_running)
        if counts["lapsed"] < LEAST_LAPSES:
            missing.append(self._kill_busy)
        return missing

    async def _queue_some(self) -> None:
        jobs = [self._make_job() for _ in range(self._random.randint(1, 4))]
        if self._random.random() < 0.1:
            jobs.append(jobs[0])
        self._begin(self._store(jobs))

    async def _cancel_running(self) -> None:
        running = [run for run in self._world.journal.running.values() if run.place.state is not State.DEAD]
        for run in self._random.sample(running, min(2, len(running))):
            self._begin(self._cancel(run.grant.lease.tracking_id))

    async def _cancel_any(self) -> None:
        if self.acknowledged:
            self._begin(self._cancel(self._random.choice(list(self.acknowledged))))

    async def _requeue(self) -> None:
        """Cancel what runs, and have it done all over again, perhaps while the old handler still goes on."""
        await self._begin_job(Script(seconds=2.0, deaf=2.0))
        running = list(self._world.journal.running.values())
        if running:
            tracking_id = self._random.choice(running).grant.lease.tracking_id
            self._begin(self._cancel_and_requeue(tracking_id))

    async def _cancel_and_requeue(self, tracking_id: UUID) -> None:
        await self._cancel(tracking_id)
        await asyncio.sleep(self._random.random())
        inspector = self._world.client.jobs.session.inspector
        assert inspector is not None
        now = self._world.universe.instant
        await self._patiently(lambda: inspector.requeue_job(tracking_id, now=now, expire_on=None))

    async def _strand(self) -> None:
        """Cut off a worker that runs a handler which won't stop, until its lease has ended."""
        await self._begin_job(Script(seconds=0.5, deaf=3 * LEASE_SECONDS))
        for _ in range(60):  # until a slot is free
            if self._stubborn():
                break
            await asyncio.sleep(0.1)
        stubborn = self._stubborn()
        if stubborn:
            self._cut_off_names([self._random.choice(stubborn).place.name], seconds=1.5 * LEASE_SECONDS)

    async def _kill_at_second_try(self) -> None:
        """Kill a worker that runs what has failed once and will again: the death burns none of the tries (E14)."""
        await self._begin_job(Script(seconds=0.5, failures=2))
        for _ in range(30):  # until one was tried again
            second = self._second_tries()
            if second:
                self._random.choice(second).place.kill()
                return
            await asyncio.sleep(0.1)

    def _second_tries(self) -> list[Run]:
        """Return the runs that are a second try and will fail like the first."""
        return [
            run
            for run in self._world.journal.running.values()
            if run.grant.attempt - run.grant.lapses == 2 and self.scripts[run.grant.lease.tracking_id].failures == 2
        ]

    def _stubborn(self) -> list[Run]:
        """Return the runs that won't stop, and whose leases still count."""
        running = self._world.journal.running.values()
        return [run for run in running if run.is_stubborn and not run.grant.is_void]

    async def _begin_job(self, script: Script) -> None:
        """Queue a job that does as *script* says, and give it the time to start."""
        job = self._world.client.jobs.create_job(self._random.choice((Errand, Chore))(script), expire_on=None)
        job = evolve(job, execute_after=self._world.universe.instant, dequeue_after=self._world.universe.instant)
        self.scripts[job.tracking_id] = script
        self._begin(self._store([job]))
        await asyncio.sleep(0.3)

    async def _gust(self) -> None:
        weather = self._world.weather
        weather.odds, weather.verbs = GUSTY, self._random.choice(VERBS)
        if weather.verbs is not None:
            weather.odds = {fate: odds * 3 for fate, odds in GUSTY.items()}
        self._later(self._random.uniform(1, 8), self._calm_down)

    def _calm_down(self) -> None:
        self._world.weather.odds = CALM

    async def _cut_off(self) -> None:
        names = [process.name for process in (*self._world.workers, self._world.client)]
        cut = self._random.choice([names[:1], names[1:2], names[:-1], names])
        self._cut_off_names(cut, seconds=self._random.uniform(0.5, 2 * LEASE_SECONDS))

    def _cut_off_names(self, cut: list[str], *, seconds: float) -> None:
        self._world.weather.outage = self._random.choice(OUTAGES)
        self._world.weather.cut_off.update(cut)
        self._later(seconds, lambda: self._world.weather.cut_off.difference_update(cut))

    async def _kill(self) -> None:
        self._random.choice(self._world.workers).kill()

    async def _kill_busy(self) -> None:
        """Kill a worker that holds leases, and wait until they have lapsed."""
        running = [run for run in self._world.journal.running.values() if run.place in self._world.workers]
        if running:
            self._random.choice(running).place.kill()
            await asyncio.sleep(LEASE_SECONDS)

    async def _freeze(self) -> None:
        worker = self._random.choice(self._world.workers)
        worker.freeze()
        self._later(self._random.uniform(0.5, 2 * LEASE_SECONDS), worker.thaw)

    async def _retire(self) -> None:
        able = self._world.able()
        if able:
            self._random.choice(able).stop()

    async def _step_clock(self) -> None:
        process = self._random.choice([*self._world.workers, self._world.client])
        process.wall.offset += timedelta(seconds=self._random.choice((-3600, -30, 30, 3600)))

    async def _execute_at_once(self) -> None:
        actor = self._world.client.actor
        actor.layers.clear()
        answer = await self._world.client.jobs.execute(Errand(Script()))
        if answer != "at once" or actor.layers != ["outer", "inner"]:
            self._world.journal.violated("E9", f"executed at once inside of {actor.layers}, which gave {answer!r}")

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _make_job(self) -> JobRecord:
        random, jobs = self._random, self._world.client.jobs
        kind: type[Command[str]] = random.choice(list(COMMANDS.values()))
        script = self._make_script(kind)
        now = self._world.universe.instant
        job = jobs.create_job(
            kind(script),  # type: ignore[call-arg]  # every command here is made of a script
            execute_after=now + timedelta(seconds=random.choice((0, 0, 0, random.uniform(0, 4)))),
            expire_on=None if random.random() < 0.9 else now + timedelta(seconds=random.uniform(4, 20)),
            priority=random.choice((-5, 0, 0, 0, 5)),
            idempotency_key=f"key {random.randint(0, 9)}" if random.random() < 0.15 else None,
            metadata={UNREADABLE: "yes"} if random.random() < 0.04 else None,
        )
        if job.queue_id == "Rarity" and random.random() < 0.3:
            job = evolve(job, queue_id="Old rarity")
        if random.random() < 0.02:
            job = evolve(job, command=Payload({"no": "script"}))
        self.scripts[job.tracking_id] = script
        return job

    def _make_script(self, kind: type[Command[str]]) -> Script:
        random = self._random
        chance = random.random()
        script = Script(
            seconds=random.choice((0.01, 0.05, 0.4, 1.0, 3.0)),
            reports=random.choice((0, 0, 0, 2)),
            failures=random.choice((0, 0, 0, 1, 2)),
        )
        if kind.__qualname__ == "Note":
            script = evolve(script, seconds=0.005)
        if chance < 0.04:
            return evolve(script, blocks=random.choice((0.5, 3 * LEASE_SECONDS)))
        if chance < 0.08:
            return evolve(script, deaf=random.choice((0.5, 3 * LEASE_SECONDS)))
        if chance < 0.2:
            return evolve(script, fashion=random.choice(HARMLESS))
        if chance < 0.21:
            return evolve(script, fashion=Fashion.KILL)
        return script

    async def _store(self, jobs: list[JobRecord]) -> None:
        storage = self._world.client.jobs.storage
        while True:
            try:
                standing = await storage.store_jobs(jobs)
            except Exception:
                await asyncio.sleep(0.5)
            else:
                break
        for job, tracking_id in zip(jobs, standing, strict=True):
            self._acknowledge(job, tracking_id)
        for kind in dict.fromkeys(COMMANDS[job.queue_id] for job in jobs if job.queue_id in COMMANDS):
            self._world.client.jobs.trigger_job_execution(kind)

    def _acknowledge(self, job: JobRecord, tracking_id: UUID) -> None:
        if job.idempotency_key is not None:
            stands = self.keys.setdefault((job.queue_id, job.idempotency_key), tracking_id)
            if stands != tracking_id:
                self._world.journal.violated("I7", f"the key {job.idempotency_key!r} stands for two jobs")
        if job.tracking_id == tracking_id:
            self.acknowledged[tracking_id] = job

    async def _cancel(self, tracking_id: UUID) -> None:
        self.attempted.add(tracking_id)
        await self._patiently(lambda: self._world.client.jobs.cancel_job(tracking_id))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except Exception:
                await asyncio.sleep(0.5)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Mend everything, and wait until all is done."""
        world = self._world
        world.journal.note("everything is mended")
        world.weather.odds = CALM
        world.weather.cut_off.clear()
        for worker in world.workers:
            worker.thaw()
        mended_at = world.universe.now
        while left := await world.unfinished():
            if world.universe.now > mended_at + HEALING_SECONDS:
                world.journal.violated("E4", f"some jobs are never done: {left}")
                break
            await asyncio.sleep(1.0)

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._world.attend()

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background[task] = None
        task.add_done_callback(self._background.pop)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, act)
