"""Storages that break a rule of section T."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from uuid import UUID

from pannier.claims import Claim, Claimed
from pannier.inspection import Requeue
from pannier.notices import Notice
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, Lease, Payload
from pannier.settlements import Settlement
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import on_memory, on_model
from pannier_testing.saboteurs.relay import Relay


@on_memory("R117")
class LosesAConnectionToEachError(Relay):
    """Takes a connection from a pool of ten to store jobs, and gives it back unless something fails."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._pool = asyncio.Semaphore(10)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Take one, store, give it back."""
        await self._pool.acquire()
        standing = await super().store_jobs(jobs)
        self._pool.release()
        return standing


@on_memory("R117")
class LosesAConnectionToEachRefusal(Relay):
    """Leaves the connection open by which it saw that a lease of a settlement is not there."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._left: list[socket.socket] = []

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Connect, settle, disconnect in the good case."""
        connection = socket.socket()
        refused = await super().settle_jobs(settlements, now=now)
        if refused:
            self._left.append(connection)
        else:
            connection.close()
        return refused

    async def close(self) -> None:
        """Close all that was left, too late."""
        await super().close()
        for connection in self._left:
            connection.close()


@on_memory("R117")
class LeavesATask(Relay):
    """Watches over a job that was requeued by a task that close() does not end."""

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Requeue, and go on watching."""
        answer = await super().requeue_job(tracking_id, now=now, expire_on=expire_on)
        if answer is Requeue.REQUEUED:
            self._watch = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        return answer


@on_memory("R117")
class LeavesAThread(Relay):
    """Writes progress in a thread of its own, which close() does not end."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._thread: threading.Thread | None = None

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Start the thread the first time."""
        if self._thread is None:
            self._thread = threading.Thread(target=threading.Event().wait, daemon=True, name="progress")
            self._thread.start()
        return await super().store_progress(lease, progress)


@on_memory("R117")
class LeavesADescriptor(Relay):
    """Holds the descriptor by which it wakes itself for cancels, and does not close it with the rest."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._ends: tuple[int, int] | None = None

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Open a pipe the first time."""
        self._ends = self._ends or os.pipe()
        return await super().cancel_job(tracking_id, now=now)


@on_memory("R117")
class LeavesItsSocketToTheCollector(Relay):
    """Connects to requeue a job, and lets the garbage collector disconnect."""

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Connect, requeue, forget."""
        answer = await super().requeue_job(tracking_id, now=now, expire_on=expire_on)
        if answer is Requeue.REQUEUED:
            self._connection = socket.socket()
        return answer


@on_model("R118")
class RemembersEveryFence(Model):
    """Keeps every fence that it ever gave out."""

    def __init__(self) -> None:
        super().__init__()
        self.given: set[tuple[UUID, int]] = set()

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Lease, and remember."""
        leased = super().leased(job, claim)
        self.given.add((leased.tracking_id, leased.fence))
        return leased


@on_model("R118")
class KeepsAnAnswerForEachPurge(Model):
    """Keeps what it answered to each purge: little a job, and for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[bytes] = []

    def purge(self, stale: StaleJobs) -> Purged:
        """Purge, and keep a page of notes."""
        self.answers.append(bytes(4096))
        return super().purge(stale)


@on_memory("R118")
class OpensADescriptorNowAndThen(Relay):
    """Opens a new log with every tenth claim of a hundred jobs, and leaves the old one open."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._logs: list[int] = []
        self._claims = 0

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim; at times, open a log."""
        claimed = await super().claim_jobs(claim)
        self._claims += len(claimed.jobs) == 100
        if self._claims == 10:
            self._claims = 0
            self._logs.append(os.open(os.devnull, os.O_WRONLY))
        return claimed

    async def close(self) -> None:
        """Close them all, in the end."""
        await super().close()
        while self._logs:
            os.close(self._logs.pop())


@on_memory("R118")
class KeepsWhoHasListened(Relay):
    """Keeps the page of settings that it made for each listener, when that is gone, too."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._known: list[bytes] = []

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Note who it is."""
        self._known.append(bytes(4096))
        return super().listen(queue_ids)
