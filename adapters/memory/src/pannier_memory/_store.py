"""The store: all jobs of one namespace, and the agendas that keep claims and purges flat."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from threading import Lock
from typing import final
from uuid import UUID

from pannier import transitions
from pannier.inspection import Requeue
from pannier.records import COMPLETE, Cancellation, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Settlement
from pannier.transitions import Verdict
from pannier_memory._agenda import Agenda
from pannier_memory._notifier import Notifier


@final
class Queue:
    """
    What falls due in one queue.

    Attributes:
        lines: PENDING jobs by priority, each when it becomes claimable.
        leases: RUNNING jobs that become claimable again when their lease ends.
        expiring: Unfinished jobs that expire, each when a purge should look at it.
        finished: Complete jobs by status, each when it ended.
        size: How many jobs there are, in whatever status.
    """

    __slots__ = ("expiring", "finished", "leases", "lines", "size")

    def __init__(self) -> None:
        self.lines: dict[int, Agenda] = {}
        self.leases = Agenda()
        self.expiring = Agenda()
        self.finished = {status: Agenda() for status in COMPLETE}
        self.size = 0

    def enter(self, job: JobRecord) -> None:
        """Enter *job* as it stands."""
        name = job.tracking_id.int
        if job.finished_at is not None:
            self.finished[job.status].put(name, job.finished_at)
            self.expiring.remove(name)
            return
        if job.status is JobStatus.RUNNING:
            if job.expire_on is None or job.dequeue_after < job.expire_on:
                self.leases.put(name, job.dequeue_after)
            if job.expire_on is not None:  # a purge may have put it off to the end that its lease had before (R39)
                self.expiring.put(name, job.expire_on)
            return
        line = self.lines.get(job.priority)
        if line is None:
            line = self.lines[job.priority] = Agenda()
        line.put(name, job.dequeue_after)
        if job.expire_on is not None:
            self.expiring.put(name, job.expire_on)

    def leave(self, job: JobRecord) -> None:
        """Take *job* out of where it stood by its status; whether it expires is left open."""
        if job.status is JobStatus.RUNNING:
            self.leases.remove(job.tracking_id.int)
        elif job.status is JobStatus.PENDING:
            self.lines[job.priority].remove(job.tracking_id.int)
        else:
            self.finished[job.status].remove(job.tracking_id.int)


@final
class Store:
    """
    Every job of one namespace. Whoever calls a method, or reads, holds the lock; nobody awaits while he does.

    Attributes:
        lock: Held for microseconds.
        jobs: By the integer of their tracking ids: hashing a UUID runs Python code.
        keys: The job that has an idempotency key, by queue and key.
        queues: What falls due, by queue id.
        notifier: Who is told of changes.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.notifier = Notifier()
        self.clear()

    def clear(self) -> None:
        """Forget every job."""
        self.jobs: dict[int, JobRecord] = {}
        self.keys: dict[tuple[str, str], JobRecord] = {}
        self.queues: dict[str, Queue] = {}

    def queues_of(self, queue_ids: Iterable[str]) -> list[Queue]:
        """Return what falls due in those of *queue_ids* that have jobs."""
        return [self.queues[queue_id] for queue_id in queue_ids if queue_id in self.queues]

    def add(self, job: JobRecord) -> UUID:
        """Store the new *job*, unless its tracking id or its key is known; return the id that stands (R7, R10)."""
        name = job.tracking_id.int
        if name in self.jobs:
            return job.tracking_id
        if job.idempotency_key is not None:
            standing = self.keys.setdefault((job.queue_id, job.idempotency_key), job)
            if standing is not job:
                return standing.tracking_id
        self.jobs[name] = job
        queue = self.queues.get(job.queue_id)
        if queue is None:
            queue = self.queues[job.queue_id] = Queue()
        queue.size += 1
        queue.enter(job)
        return job.tracking_id

    def renew(self, lease: Lease, *, now: datetime, lease_for: timedelta) -> bool:
        """Move the end of *lease*. Return whether it stands."""
        job = self.jobs.get(lease.tracking_id.int)
        if job is None or not transitions.holds(job, lease):
            return False
        self._replace(job, transitions.renew(job, now=now, lease_for=lease_for))
        return True

    def settle(self, settlement: Settlement, *, now: datetime) -> JobRecord | None:
        """Apply *settlement*. Return the job as it is then, or None where the lease is refused."""
        job = self.jobs.get(settlement.lease.tracking_id.int)
        if job is None:
            return None
        settled = transitions.settle(job, settlement, now=now)
        if settled.verdict is Verdict.APPLIED:
            self._replace(job, settled.job)
        return None if settled.verdict is Verdict.REFUSED else settled.job

    def cancel(self, tracking_id: UUID, *, now: datetime) -> tuple[Cancellation, JobRecord | None]:
        """End an unfinished job at once and for good. Return the answer, and the job if this call has ended it."""
        job = self.jobs.get(tracking_id.int)
        if job is None:
            return Cancellation.NOT_FOUND, None
        answer, cancelled = transitions.cancel(job, now=now)
        if cancelled is job:
            return answer, None
        self._replace(job, cancelled)
        return answer, cancelled

    def expire(self, job: JobRecord, *, now: datetime) -> JobRecord:
        """Mark the expirable *job* EXPIRED."""
        expired = transitions.expire(job, now=now)
        self._replace(job, expired)
        return expired

    def requeue(
        self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None
    ) -> tuple[Requeue, JobRecord | None]:
        """Make a complete job that did not succeed PENDING again. Return the answer, and the job if it is so now."""
        job = self.jobs.get(tracking_id.int)
        if job is None:
            return Requeue.NOT_FOUND, None
        answer, requeued = transitions.requeue(job, now=now, expire_on=expire_on)
        if requeued is job:
            return answer, None
        self._replace(job, requeued)
        return answer, requeued

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Keep *progress*, if *lease* stands."""
        job = self.jobs.get(lease.tracking_id.int)
        reported = None if job is None else transitions.report(job, lease, progress)
        if reported is None:
            return False
        self.jobs[lease.tracking_id.int] = reported
        return True

    def delete(self, name: int) -> None:
        """Forget the complete job *name*, its key too, and with the last job of a queue the queue (R16, R76)."""
        job = self.jobs.pop(name)
        if job.idempotency_key is not None:
            del self.keys[job.queue_id, job.idempotency_key]
        queue = self.queues[job.queue_id]
        queue.leave(job)
        queue.size -= 1
        if not queue.size:
            del self.queues[job.queue_id]

    def _replace(self, job: JobRecord, changed: JobRecord) -> None:
        """Put *changed* in the place of *job*."""
        self.jobs[job.tracking_id.int] = changed
        queue = self.queues[job.queue_id]
        queue.leave(job)
        queue.enter(changed)
