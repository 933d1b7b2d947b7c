"""The store: all jobs of one namespace, the agendas that keep claims and purges flat, and the lock around both."""

from collections import defaultdict
from datetime import datetime, timedelta
from threading import RLock
from types import TracebackType
from uuid import UUID

from pannier import transitions
from pannier.records import (
    COMPLETE,
    Cancellation,
    JobRecord,
    JobStatus,
    Lease,
    Payload,
    Requeue,
    Settlement,
)
from pannier.transitions import Verdict
from pannier_memory.agenda import Agenda, Entry
from pannier_memory.listeners import Listeners


class Queue:
    """
    What falls due in one queue.

    Attributes:
        lines: PENDING jobs by priority, in the order in which they become claimable.
        leases: RUNNING jobs, by the ends of their leases.
        expiring: Unfinished jobs, by their expiry.
        finished: Complete jobs by status, in the order in which they ended.
    """

    def __init__(self, jobs: dict[int, JobRecord]) -> None:
        def is_pending(entry: Entry) -> bool:
            job = jobs.get(entry.key)
            return job is not None and job.fence == entry.fence and job.status is JobStatus.PENDING

        def is_running(entry: Entry) -> bool:
            job = jobs.get(entry.key)
            return (
                job is not None
                and job.fence == entry.fence
                and job.status is JobStatus.RUNNING
                and job.dequeue_after == entry.at
            )

        def is_unfinished(entry: Entry) -> bool:
            job = jobs.get(entry.key)
            return job is not None and job.finished_at is None and job.expire_on == entry.at

        def is_finished(entry: Entry) -> bool:
            job = jobs.get(entry.key)
            return job is not None and job.fence == entry.fence and job.finished_at == entry.at

        self._is_pending = is_pending
        self.lines: dict[int, Agenda] = {}
        self.leases = Agenda(is_running)
        self.expiring = Agenda(is_unfinished)
        self.finished = {status: Agenda(is_finished) for status in COMPLETE}

    def line(self, priority: int) -> Agenda:
        """Return the line of *priority*."""
        line = self.lines.get(priority)
        if line is None:
            line = self.lines[priority] = Agenda(self._is_pending)
        return line


class Store:
    """
    Every job of one namespace. Enter it (`with store:`) around whatever must be one step.

    Attributes:
        jobs: By the integer of their tracking ids: hashing a UUID runs Python code.
        keys: The job that has an idempotency key, by queue and key.
        queues: What falls due, by queue.
        listeners: Who is told of changes.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, JobRecord] = {}
        self.keys: dict[tuple[str, str], UUID] = {}
        self.queues: defaultdict[str, Queue] = defaultdict(lambda: Queue(self.jobs))
        self.listeners = Listeners()
        self._lock = RLock()

    def __enter__(self) -> "Store":
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def add(self, job: JobRecord) -> UUID:
        """Store a new *job*, unless its tracking id or its key is known; return the id that stands."""
        key = job.tracking_id.int
        if key in self.jobs:
            return job.tracking_id
        if job.idempotency_key is not None:
            standing = self.keys.setdefault((job.queue_id, job.idempotency_key), job.tracking_id)
            if standing != job.tracking_id:
                return standing
        self.jobs[key] = job
        self._enter_line(job)
        return job.tracking_id

    def claim(self, job: JobRecord, *, worker_id: str, now: datetime, lease_for: timedelta) -> JobRecord:
        """Lease *job*, whose entry was taken out of its line or of the leases."""
        claimed = transitions.claim(job, worker_id=worker_id, now=now, lease_for=lease_for)
        key = job.tracking_id.int
        self.jobs[key] = claimed
        self.queues[job.queue_id].leases.add(Entry(claimed.dequeue_after, key, claimed.fence))
        return claimed

    def renew(self, lease: Lease, *, now: datetime, lease_for: timedelta) -> bool:
        """Move the end of *lease*. Return whether it stands."""
        job = self.jobs.get(lease.tracking_id.int)
        if job is None or not transitions.holds(job, lease):
            return False
        renewed = transitions.renew(job, now=now, lease_for=lease_for)
        if renewed.dequeue_after != job.dequeue_after:
            self.jobs[lease.tracking_id.int] = renewed
            leases = self.queues[job.queue_id].leases
            leases.add(Entry(renewed.dequeue_after, lease.tracking_id.int, job.fence))
            leases.outdate()
        return True

    def settle(self, settlement: Settlement, *, now: datetime) -> bool:
        """Apply *settlement*. Return whether its lease stands, or its effect did already."""
        job = self.jobs.get(settlement.lease.tracking_id.int)
        if job is None:
            return False
        settled = transitions.settle(job, settlement, now=now)
        if settled.verdict is Verdict.APPLIED:
            self.jobs[job.tracking_id.int] = settled.job
            queue = self.queues[job.queue_id]
            queue.leases.outdate()
            if settled.job.finished_at is None:
                self._enter_line(settled.job)
            else:
                self._finish(settled.job, queue)
        return settled.verdict is not Verdict.REFUSED

    def cancel(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job at once and for good."""
        job = self.jobs.get(tracking_id.int)
        if job is None:
            return Cancellation.NOT_FOUND
        cancellation, cancelled = transitions.cancel(job, now=now)
        if cancelled is not job:
            self._end(job, cancelled)
            self.listeners.cancelled(cancelled)
        return cancellation

    def expire(self, job: JobRecord, *, now: datetime) -> None:
        """Mark an expirable *job* EXPIRED."""
        expired = transitions.expire(job, now=now)
        self._end(job, expired)
        self.listeners.finished(expired)

    def requeue(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job that did not succeed PENDING again."""
        job = self.jobs.get(tracking_id.int)
        if job is None:
            return Requeue.NOT_FOUND
        answer, requeued = transitions.requeue(job, now=now, expire_on=expire_on)
        if requeued is not job:
            self.jobs[tracking_id.int] = requeued
            self.queues[job.queue_id].finished[job.status].outdate()
            self._enter_line(requeued)
            self.listeners.queued([requeued])
        return answer

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Keep *progress*, if *lease* stands."""
        job = self.jobs.get(lease.tracking_id.int)
        reported = None if job is None else transitions.report(job, lease, progress)
        if reported is None:
            return False
        self.jobs[lease.tracking_id.int] = reported
        return True

    def delete(self, job: JobRecord) -> None:
        """Forget a complete *job*, whose entry was taken out; its key is free again."""
        del self.jobs[job.tracking_id.int]
        if job.idempotency_key is not None:
            del self.keys[job.queue_id, job.idempotency_key]

    def _enter_line(self, job: JobRecord) -> None:
        queue = self.queues[job.queue_id]
        key = job.tracking_id.int
        queue.line(job.priority).add(Entry(job.dequeue_after, key, job.fence))
        if job.expire_on is not None and job.attempt == 0:
            queue.expiring.add(Entry(job.expire_on, key, job.fence))

    def _end(self, job: JobRecord, ended: JobRecord) -> None:
        """Put *ended* in the place of the unfinished *job*."""
        self.jobs[job.tracking_id.int] = ended
        queue = self.queues[job.queue_id]
        if job.status is JobStatus.RUNNING:
            queue.leases.outdate()
        else:
            queue.line(job.priority).outdate()
        self._finish(ended, queue)

    def _finish(self, job: JobRecord, queue: Queue) -> None:
        assert job.finished_at is not None  # noqa: S101  # the transitions promise it
        queue.finished[job.status].add(Entry(job.finished_at, job.tracking_id.int, job.fence))
        if job.expire_on is not None:
            queue.expiring.outdate()
