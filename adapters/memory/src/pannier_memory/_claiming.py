"""Claiming: which jobs a claim takes, and when the next one falls due."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, final

from pannier import transitions
from pannier.claims import Claim, Demand
from pannier_memory._agenda import Agenda
from pannier_memory._store import Store

if TYPE_CHECKING:
    from pannier.records import JobRecord

MAX_EXPIRED: Final = 1_000
"""So many expired jobs a claim marks at most on its way. The next one goes on, so that none takes long (R92, R119)."""


@final
class Claiming:
    """
    One claim on its way through the store.

    Attributes:
        leased: What it has taken, in the form that is kept.
        expired: What it has found expired, and marked.
        next_due: When the next of the other jobs becomes claimable, exactly; None: not within `look_ahead` (R121).
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        """
        Get ready for *claim*.

        Raises:
            ValueError: The leases would end after the year 9999.
        """
        self._store = store
        self._claim = claim
        self._ends_at = transitions.lease_end(claim.now, claim.lease_for)
        self.leased: list[JobRecord] = []
        self.expired: list[JobRecord] = []
        self.next_due: datetime | None = None

    def run(self) -> None:
        """Take what is due, up to the limits."""
        for demand in self._claim.demands:
            self._take_for(demand)
        self.next_due = self._next_due()
        lasting: dict[str, list[int]] = {}
        for job in self.leased:  # not before: a lease that this claim has given is no reason to come back
            if not transitions.has_expired(job, self._ends_at):
                lasting.setdefault(job.queue_id, []).append(job.tracking_id.int)
        for queue_id, names in lasting.items():
            self._store.queues[queue_id].leases.put_new(names, self._ends_at)

    def _take_for(self, demand: Demand) -> None:
        """Take lapsed leases first, then by priority (R25, R26); the names of a demand share its limit."""
        queues = self._store.queues_of(demand.queue_ids)
        wanted = demand.limit - self._take([queue.leases for queue in queues], demand.limit)
        for priority in sorted({priority for queue in queues for priority in queue.lines}, reverse=True):
            wanted -= self._take([queue.lines[priority] for queue in queues if priority in queue.lines], wanted)

    def _take(self, agendas: Sequence[Agenda], wanted: int) -> int:
        """Lease the first *wanted* due jobs of *agendas* together. Return how many there were."""
        taken = 0
        while taken < wanted and not self._is_cut_short:
            names = _pop(agendas, self._claim.now, min(wanted - taken, MAX_EXPIRED))
            if not names:
                break
            taken += sum(map(self._lease, names))
        return taken

    def _lease(self, name: int) -> bool:
        """Lease the due job *name*, or mark it EXPIRED if it is. Return whether it was leased."""
        claim, store = self._claim, self._store
        job = store.jobs[name]
        if transitions.has_expired(job, claim.now):
            self.expired.append(store.expire(job, now=claim.now))
            return False
        leased = transitions.claim_until(job, worker_id=claim.worker_id, ends_at=self._ends_at)
        store.jobs[name] = leased
        self.leased.append(leased)
        return True

    @property
    def _is_cut_short(self) -> bool:
        return len(self.expired) >= MAX_EXPIRED

    def _next_due(self) -> datetime | None:
        claim = self._claim
        firsts = [
            self._first_due(agenda)
            for demand in claim.demands
            for queue in self._store.queues_of(demand.queue_ids)
            for agenda in (queue.leases, *queue.lines.values())
        ]
        if self._is_cut_short:
            return claim.now
        due = min((at for at in firsts if at is not None), default=None)
        return due if due is not None and due - claim.now <= claim.look_ahead else None

    def _first_due(self, agenda: Agenda) -> datetime | None:
        """Return when the first job of *agenda* that has not expired falls due; mark those before it."""
        now = self._claim.now
        while (first := agenda.first()) is not None:
            at, name = first
            job = self._store.jobs[name]
            if at > now or not transitions.has_expired(job, now) or self._is_cut_short:
                return at
            self.expired.append(self._store.expire(job, now=now))
        return None


def _pop(agendas: Sequence[Agenda], now: datetime, limit: int) -> list[int]:
    """Take due jobs, the first ones, out of *agendas*: at most *limit*, none only if there is none."""
    if len(agendas) == 1:
        return agendas[0].pop(now, limit)
    firsts = [(first, place) for place, agenda in enumerate(agendas) if (first := agenda.first()) is not None]
    return agendas[min(firsts)[1]].pop(now, 1) if firsts else []
