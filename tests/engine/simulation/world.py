"""A world: the processes of one simulation, their storage and its weather, and a supervisor that restarts what ends."""

from datetime import timedelta
from typing import Final

from pannier import WorkerOptions
from pannier.storage import Capabilities, JobStorageProvider
from pannier.urls import StorageUrl
from pannier_memory.plugin import MemoryPlugin
from pannier_memory.provider import MemoryStorage
from tests.engine.simulation import program
from tests.engine.simulation.journal import Journal
from tests.engine.simulation.ledger import Ledger
from tests.engine.simulation.plugin import withdraw
from tests.engine.simulation.process import Process
from tests.engine.simulation.storage import SimulatedStorage
from tests.engine.simulation.universe import State, Universe
from tests.engine.simulation.weather import Weather

LEASE_SECONDS: Final = 6.0
GRACE_SECONDS: Final = 2.0
RESTART_SECONDS: Final = 1.0
WORKERS: Final = 2

OPTIONS: Final = WorkerOptions(
    lease_for=timedelta(seconds=LEASE_SECONDS),
    renew_every=timedelta(seconds=2),
    probe_every=timedelta(seconds=2),
    storage_retry_delay=timedelta(seconds=1),
    shutdown_grace=timedelta(seconds=GRACE_SECONDS),
    purge_every=timedelta(seconds=20),
    keep={},
)

PUSHING: Final = Capabilities(durable=True, shared=True, atomic_batches=True)
MUTE: Final = Capabilities(durable=True, shared=True, atomic_batches=True, withheld=frozenset({"notify"}))
ALL_QUEUES: Final = frozenset(program.SLOTS)
FEW_QUEUES: Final = frozenset({"Errand", "Note", "Chore"})


class World:
    """
    What there is.

    Attributes:
        universe: Time and chance.
        journal: Every run of a handler.
        ledger: Everything that was done to the storage.
        weather: What goes wrong.
        workers: The processes that work now, one a seat.
        client: The process that queues, cancels and follows.
        pushes: Whether the storage pushes.
        truth: A way to the storage on which nothing goes wrong.
        past: The workers that were.
        is_closing: Whether nobody is restarted any more.
    """

    def __init__(self, seed: int) -> None:
        self.universe = Universe(seed)
        self.journal = Journal(self.universe)
        self.ledger = Ledger(self.universe, self.journal)
        self.journal.ledger = self.ledger
        self.weather = Weather(self.universe)
        [self._adapter] = MemoryPlugin().pannier_storage_adapters()
        self.truth = self._make_memory()
        self.pushes = self.universe.random.random() < 0.7
        self._count = 0
        self.client = self._make_process("client", OPTIONS)
        self.workers = [self._new_worker(seat) for seat in range(WORKERS)]
        self.past: list[Process] = []
        self.is_closing = False

    @property
    def processes(self) -> list[Process]:
        """Every process there ever was, without the client."""
        return [*self.past, *self.workers]

    def attend(self) -> None:
        """Restart what has ended, as a supervisor does."""
        if self.is_closing:
            return
        for seat, worker in enumerate(self.workers):
            if worker.is_gone:
                self.past.append(worker)
                self.workers[seat] = self._new_worker(seat)
                self.workers[seat].start()

    async def unfinished(self) -> list[str]:
        """Return the names of jobs that are not complete."""
        jobs = [await self.truth.get_job(tracking_id) for tracking_id in self.ledger.jobs]
        return [self.ledger.name(job.tracking_id) for job in jobs if job is not None and not job.is_complete]

    def end(self) -> None:
        """Clean up."""
        self.universe.end()
        withdraw(self.ledger.places)

    def is_settled_in(self) -> bool:
        """Whether every worker has been at work for longer than a lease."""
        now = self.universe.now
        return all(worker.opened_at is not None and now > worker.opened_at + LEASE_SECONDS for worker in self.workers)

    def able(self) -> list[Process]:
        """Return the workers that are up and running."""
        alive = [worker for worker in self.workers if worker.state is State.ALIVE and not worker.is_gone]
        return [worker for worker in alive if not worker.is_stopping]

    def _new_worker(self, seat: int) -> Process:
        self._count += 1
        queues = FEW_QUEUES if seat % 2 else ALL_QUEUES
        max_running = self.universe.random.choice((None, None, 3))
        options = WorkerOptions(
            queues=queues,
            max_running=max_running,
            lease_for=OPTIONS.lease_for,
            renew_every=OPTIONS.renew_every,
            probe_every=OPTIONS.probe_every,
            storage_retry_delay=OPTIONS.storage_retry_delay,
            shutdown_grace=OPTIONS.shutdown_grace,
            purge_every=OPTIONS.purge_every,
            keep=OPTIONS.keep,
        )
        return self._make_process(f"worker-{self._count}", options)

    def _make_process(self, name: str, options: WorkerOptions) -> Process:
        offset = timedelta(seconds=self.universe.random.uniform(-30, 30))

        def make_storage() -> JobStorageProvider:
            return SimulatedStorage(
                inner=self._make_memory(),
                universe=self.universe,
                weather=self.weather,
                ledger=self.ledger,
                name=name,
                capabilities=PUSHING if self.pushes else MUTE,
            )

        process = Process(
            universe=self.universe,
            journal=self.journal,
            name=name,
            make_storage=make_storage,
            options=options,
            offset=offset,
        )
        self.ledger.places[name] = process
        return process

    def _make_memory(self) -> MemoryStorage:
        storage = self._adapter.create(StorageUrl("memory://world"))
        assert isinstance(storage, MemoryStorage)
        return storage
