"""Claiming: which jobs a claim takes, and when the next one falls due."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from pannier.records import Claim, Claimed, Demand, JobRecord
from pannier.transitions import is_expirable
from pannier_memory.agenda import Agenda, Entry
from pannier_memory.store import Queue, Store

MAX_EXPIRED: Final = 1_000
"""How many expired jobs one claim marks at most on its way; the next one goes on, and none takes long (R119)."""


def claim_jobs(store: Store, claim: Claim) -> Claimed:
    """Lease to the claimer what it asked for, as far as it is due. The records are in the form that is kept."""
    claiming = _Claiming(store, claim)
    jobs = tuple(job for demand in claim.demands for job in claiming.take(demand))
    return Claimed(jobs=jobs, next_due=claiming.next_due())


class _Claiming:
    """One claim on its way through the store."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._patience = MAX_EXPIRED

    def take(self, demand: Demand) -> Iterator[JobRecord]:
        """Lease up to the limit: lapsed leases first, oldest end first, then by priority and due time (R25, R26)."""
        wanted, queues = demand.limit, self._queues(demand)
        while wanted and (lapsed := self._earliest([queue.leases for queue in queues])) is not None:
            yield self._lease(*lapsed)
            wanted -= 1
        for priority in sorted({priority for queue in queues for priority in queue.lines}, reverse=True):
            for line in [queue.lines[priority] for queue in queues if priority in queue.lines]:
                while wanted and (entry := self._due(line)) is not None:
                    yield self._lease(line, entry)
                    wanted -= 1

    def next_due(self) -> datetime | None:
        """
        Return when the next job of the asked queues becomes claimable, or None if not within `look_ahead` (R121).

        Leases that this claim gave count as well: a bound that is a little early is cheaper than telling them apart.
        """
        claim = self._claim
        fronts = [
            self._front(agenda)
            for demand in claim.demands
            for queue in self._queues(demand)
            for agenda in (queue.leases, *queue.lines.values())
        ]
        if not self._patience:
            return claim.now
        due = min((entry.at for entry in fronts if entry is not None), default=None)
        return due if due is not None and due - claim.now <= claim.look_ahead else None

    def _queues(self, demand: Demand) -> list[Queue]:
        known = self._store.queues
        return [known[queue_id] for queue_id in demand.queue_ids if queue_id in known]

    def _earliest(self, leases: list[Agenda]) -> tuple[Agenda, Entry] | None:
        """Return the oldest lapsed lease of all, and where it stands."""
        fronts = [(agenda, entry) for agenda in leases if (entry := self._front(agenda)) is not None]
        oldest = min(fronts, key=lambda front: front[1], default=None)
        return oldest if oldest is not None and oldest[1].at <= self._claim.now and self._patience else None

    def _due(self, line: Agenda) -> Entry | None:
        """Return the front of *line*, if it is claimable now."""
        entry = self._front(line)
        return entry if entry is not None and entry.at <= self._claim.now and self._patience else None

    def _front(self, agenda: Agenda) -> Entry | None:
        """Return the earliest entry of *agenda* whose job has not expired; what has is marked on the way."""
        while (entry := agenda.first()) is not None:
            job = self._store.jobs[entry.key]
            if entry.at > self._claim.now or not is_expirable(job, self._claim.now) or not self._patience:
                return entry
            agenda.pop()
            self._store.expire(job, now=self._claim.now)
            self._patience -= 1
        return None

    def _lease(self, agenda: Agenda, entry: Entry) -> JobRecord:
        agenda.pop()
        claim = self._claim
        return self._store.claim(
            self._store.jobs[entry.key], worker_id=claim.worker_id, now=claim.now, lease_for=claim.lease_for
        )
