"""`JobQueues`: where commands are queued, executed and tracked. The composition root of everything but the worker."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, cast
from uuid import UUID

from cattrs import Converter

from pannier.codec import Codec, ConverterCodec
from pannier.commands import Command, JobResult, set_tracking_id
from pannier.environment import Environment
from pannier.errors import UsageError
from pannier.events import JobEvent, JobEventKind
from pannier.execute import execute_now
from pannier.handlers import Resolver
from pannier.ids import TrackingIds
from pannier.instants import MICROSECOND
from pannier.invocation import Invoker
from pannier.making import ExpireOn, Expiry, JobMaker
from pannier.middleware import Middleware
from pannier.notices import Notice, NoticeKind
from pannier.observers import Observers
from pannier.options import QueueOptions
from pannier.records import Cancellation, JobRecord
from pannier.registry import HandlerRegistry
from pannier.resolving import TrackerResolver
from pannier.tracker import JobTracker
from pannier.worker.options import WorkerOptions

if TYPE_CHECKING:
    from pannier.session import Session
    from pannier.storage import JobStorageProvider
    from pannier.sync import SyncJobQueues
    from pannier.worker.worker import Worker

logger = logging.getLogger("pannier")

C = TypeVar("C", bound=Command[object])
R = TypeVar("R")


class JobQueues:
    """
    Job queues on one storage: one queue for each command.

    `async with jobs:` opens the storage; `async with jobs.worker():` opens it and works as well. A `JobQueues` may
    be made at import time: nothing is opened or connected before that.

    Attributes:
        handler: Registers the decorated function or class; see `HandlerRegistry.handler`.
        declare: Makes a command known that is only queued and tracked here; see `HandlerRegistry.declare`.
        include: Takes over what another registry holds; see `HandlerRegistry.include`.
        registry: The commands known here.
        storage_name: What messages call the storage; its URL, without the password.
        source: Where its storages come from.
        defaults: The options of queues that say nothing else.
    """

    def __init__(
        self,
        storage: "str | JobStorageProvider",
        *,
        handlers: HandlerRegistry | Iterable[HandlerRegistry] = (),
        defaults: QueueOptions | None = None,
        middleware: Sequence[Middleware] = (),
        plugins: Iterable[object] = (),
        codec: Codec | None = None,
        resolver: Resolver | None = None,
        environment: Environment | None = None,
    ) -> None:
        """
        Put job queues together.

        Args:
            storage: A storage URL, or an unopened provider.
            handlers: Registries to take over. More may be added with `handler`, `declare` and `include`.
            defaults: The options of queues that say nothing else.
            middleware: Wrapped around every execution, the first outermost, inside of what plugins add.
            plugins: Plugins besides those that are installed.
            codec: In place of the default codec, which plugins configure.
            resolver: Builds class handlers; by default constructor parameters annotated `JobTracker[C]` are filled in.
            environment: Time, chance and threads, for tests that control them.

        Raises:
            ConfigurationError: The URL names no installed adapter, a plugin is broken, a handler is registered twice.
        """
        # A module of commands and handlers imports pannier, and needs neither plugins nor the contract of storages.
        from pannier.plugins import Plugins  # noqa: PLC0415
        from pannier.source import StorageSource  # noqa: PLC0415

        middleware, plugins = tuple(middleware), tuple(plugins)
        self._like_these = partial(
            JobQueues, defaults=defaults, middleware=middleware, plugins=plugins, codec=codec, resolver=resolver
        )
        self.plugins = Plugins.installed(plugins)
        self.source = StorageSource(storage, self.plugins)
        self.storage_name = self.source.name
        self.registry = HandlerRegistry()
        self.handler = self.registry.handler
        self.declare = self.registry.declare
        self.include = self.registry.include
        for registry in [handlers] if isinstance(handlers, HandlerRegistry) else handlers:
            self.registry.include(registry)
        self.defaults = defaults or QueueOptions()
        self.codec = codec or ConverterCodec([self._configure_converter])
        self.observers = Observers(self.plugins)
        self.environment = environment or Environment()
        self.invoker = Invoker(
            resolver=resolver or TrackerResolver(self),
            middleware=[*chain.from_iterable(self.plugins.hook.pannier_middleware()), *middleware],
            threads=self.environment.threads,
        )
        self._maker = JobMaker(
            ids=TrackingIds(self.environment.wall, self.environment.random),
            codec=self.codec,
            defaults=self.defaults,
            metadata=self.observers.metadata,
        )
        self._session: Session | None = None
        self._users = 0
        self._opening = asyncio.Lock()
        self._pid = os.getpid()

    def on_storage(self, storage: "str | JobStorageProvider", *, environment: Environment | None = None) -> "JobQueues":
        """
        Return job queues like these on another storage: for tests, or for a storage a tenant.

        They know the commands and handlers that are registered here now, and have the same defaults, middleware,
        plugins, codec and resolver. Nothing else is shared.

        Args:
            storage: A storage URL, or an unopened provider.
            environment: Time, chance and threads, for tests that control them.

        Raises:
            ConfigurationError: The URL names no installed adapter.
        """
        return self._like_these(storage, handlers=self.registry, environment=environment)

    async def __aenter__(self) -> "JobQueues":
        from pannier.session import Session  # noqa: PLC0415  # as in __init__

        if self._pid != os.getpid():  # a forked child: the parent may have been opening at that moment
            self._pid, self._opening = os.getpid(), asyncio.Lock()
        async with self._opening:
            if self._session is None or self._session.pid != os.getpid():
                self._session, self._users = await Session.open(self.source.create(), self.environment), 0
            elif self._session.loop is not asyncio.get_running_loop():
                raise UsageError("these JobQueues are open on another event loop; make one JobQueues for each loop")
            self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._opening:
            self._users -= 1
            if self._users == 0 and self._session is not None:
                session, self._session = self._session, None
                await session.close()

    def worker(
        self, options: WorkerOptions | None = None, *, overrun: Callable[[], None] | None = None
    ) -> AbstractAsyncContextManager["Worker"]:
        """
        Return a worker: entered, it opens the storage and executes jobs until it is left.

        Args:
            options: How it works.
            overrun: Called, from any thread, when a handler is about to outlive its lease and can't be stopped; a
                program that is a worker and nothing else ends its process here (E6).
        """
        from pannier.worker.worker import Worker  # noqa: PLC0415  # a program that only queues loads no worker

        return Worker(self, options or WorkerOptions(), overrun=overrun)

    @property
    def session(self) -> "Session":
        """
        What is there while these job queues are open.

        Raises:
            UsageError: They are not open.
        """
        if self._session is None or self._session.pid != os.getpid():
            raise UsageError("these JobQueues are not open; use 'async with jobs:' or 'async with jobs.worker():'")
        return self._session

    @property
    def is_open(self) -> bool:
        """Whether the storage is open in this process."""
        return self._session is not None and self._session.pid == os.getpid()

    @property
    def storage(self) -> "JobStorageProvider":
        """The opened storage, for its add-ons: `jobs.storage.store_jobs_in(connection, [record])`."""
        return self.session.storage

    @property
    def create_another_storage(self) -> "Callable[[], JobStorageProvider] | None":
        """Makes a further, unopened instance of the storage; None where a provider was given instead of a URL."""
        return self.source.create if self.source.gives_many else None

    def now(self) -> datetime:
        """
        Return the instant by which jobs are due and expire: `execute_after=jobs.now() + timedelta(hours=4)`.

        While the storage is open that is its own clock, if it has one; else the wall clock.
        """
        return (self._session.clock if self._session is not None else self.environment.wall).now()

    def listen(self) -> None:
        """Let the storage push notices about all registered queues, where it can."""
        self.session.listen(frozenset(chain.from_iterable(known.queue_ids for known in self.registry)))

    async def queue_job(
        self,
        command: Command[object],
        *,
        execute_after: datetime | None = None,
        expire_on: ExpireOn = Expiry.DEFAULT,
        priority: int = 0,
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> UUID:
        """
        Queue *command*. When this returns, the job is stored; on a durable storage it survives everything.

        Args:
            command: What to do.
            execute_after: Not before this instant; by default now.
            expire_on: Not from this instant on; None: never expires; by default 4 h after *execute_after*.
            priority: -100 to 100, higher first.
            idempotency_key: In place of the key that the handler's `idempotency_key` chooses.
            metadata: Kept beside the job.

        Returns:
            The job's tracking id; the existing job's where its key is known already.

        Raises:
            UnregisteredCommandError: The command's class is not known here.
            InvalidJobError: A naive datetime, an expiry at or before *execute_after*, a bad priority.
            EncodingError: The command can't be encoded.
            StorageError: The job was not acknowledged. Queueing it again with a key is safe.
        """
        job = self.create_job(
            command,
            execute_after=execute_after,
            expire_on=expire_on,
            priority=priority,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        [tracking_id] = await self.session.storage.store_jobs([job])
        self._stored([job], [tracking_id])
        set_tracking_id(command, tracking_id)
        return tracking_id

    async def queue_jobs(
        self,
        jobs: Iterable[Command[object] | JobRecord],
        *,
        execute_after: datetime | None = None,
        expire_on: ExpireOn = Expiry.DEFAULT,
        priority: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> list[UUID]:
        """
        Queue many jobs in one batch, atomically where the storage says so.

        Args:
            jobs: Commands, to which the options apply, and records made by `create_job`, which have their own.
            execute_after: As in `queue_job`, and so the rest.
            expire_on: As there.
            priority: As there.
            metadata: As there.

        Returns:
            For each the tracking id that stands.
        """
        given = list(jobs)
        made = iter(
            self._maker.make_many(
                [job for job in given if not isinstance(job, JobRecord)],
                self.registry.get,
                now=self.now(),
                resolution=self._resolution,
                execute_after=execute_after,
                expire_on=expire_on,
                priority=priority,
                metadata=metadata,
            )
        )
        records = [job if isinstance(job, JobRecord) else next(made) for job in given]
        standing = await self.session.storage.store_jobs(records)
        self._stored(records, standing)
        for item, record, tracking_id in zip(given, records, standing, strict=True):
            if tracking_id is not record.tracking_id and isinstance(item, Command):  # which it has from its making
                set_tracking_id(item, tracking_id)
        return standing

    def create_job(
        self,
        command: Command[object],
        *,
        execute_after: datetime | None = None,
        expire_on: ExpireOn = Expiry.DEFAULT,
        priority: int = 0,
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> JobRecord:
        """
        Make the job of *command* without storing it, for a caller who stores it in a transaction of his own.

        After the commit `trigger_job_execution` wakes the queue. Arguments and errors are those of `queue_job`.
        """
        return self._maker.make(
            command,
            self.registry.get(type(command)),
            now=self.now(),
            resolution=self._resolution,
            execute_after=execute_after,
            expire_on=expire_on,
            priority=priority,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )

    def trigger_job_execution(self, command: type[Command[object]]) -> None:
        """Let this process's workers look at the queue of *command* now: a job was stored behind their backs."""
        self.session.hints.pass_on(Notice(NoticeKind.QUEUED, self.registry.get(command).queue_id))

    async def execute(
        self, command: Command[R], *, on_progress: Callable[[JobResult[object]], None] | None = None
    ) -> R:
        """
        Execute *command* here and now, without any storage: the same handler inside the same middleware (E9).

        Args:
            command: What to do.
            on_progress: Called with what the handler reports.

        Raises:
            UnregisteredCommandError: The command has no handler here.
            BaseException: Whatever the handler raises.
        """
        registration = self.registry.get(type(command))
        return cast("R", await execute_now(self, registration, command, on_progress=on_progress))

    def tracker(self, command: type[C]) -> JobTracker[C]:
        """
        Return a tracker of jobs of *command*.

        Raises:
            UnregisteredCommandError: The class is not known here.
        """
        return JobTracker(self, self.registry.get(command))

    async def cancel_job(self, tracking_id: UUID) -> Cancellation:
        """Cancel the job at once and for good. See `JobTracker.cancel_job`."""
        session = self.session
        cancellation = await session.storage.cancel_job(tracking_id, now=session.clock.now())
        if cancellation is Cancellation.CANCELLED:
            session.hints.pass_on(Notice(NoticeKind.CANCELLED, "*", tracking_id))
        return cancellation

    @cached_property
    def sync(self) -> "SyncJobQueues":
        """The same API for code without an event loop, from any thread."""
        from pannier.sync import SyncJobQueues  # noqa: PLC0415  # sync builds on this module

        return SyncJobQueues(self)

    @property
    def _resolution(self) -> timedelta:
        return self._session.storage.capabilities.time_resolution if self._session is not None else MICROSECOND

    def _stored(self, jobs: Sequence[JobRecord], standing: Sequence[UUID]) -> None:
        """Tell of stored jobs, and of duplicates. Who waits for jobs of a queue is told once, 2 us a job less."""
        queued: dict[str, None] = {}  # in their order
        for job, tracking_id in zip(jobs, standing, strict=True):
            is_duplicate = tracking_id is not job.tracking_id and tracking_id != job.tracking_id
            if is_duplicate:
                logger.warning(
                    "duplicate: job %s of queue %r has the idempotency key already",
                    tracking_id,
                    job.queue_id,
                    extra={"tracking_id": str(tracking_id), "queue_id": job.queue_id, "attempt": 0},
                )
            else:
                queued[job.queue_id] = None
            if self.observers.wants_events:
                self._tell_stored(job, tracking_id, JobEventKind.DUPLICATE if is_duplicate else JobEventKind.QUEUED)
        for queue_id in queued:
            self.session.hints.pass_on(Notice(NoticeKind.QUEUED, queue_id))

    def _tell_stored(self, job: JobRecord, tracking_id: UUID, kind: JobEventKind) -> None:
        self.observers.tell(JobEvent(kind=kind, at=job.created_at, queue_id=job.queue_id, tracking_id=tracking_id))

    def _configure_converter(self, converter: Converter) -> None:
        self.plugins.hook.pannier_configure_converter(converter=converter)
