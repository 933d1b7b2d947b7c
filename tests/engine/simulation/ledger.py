"""The ledger: what was really done to the storage, written at the moment it was done, and what is wrong about it."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import define, field

from pannier.claims import Claim
from pannier.inspection import Requeue
from pannier.records import Cancellation, JobRecord, Lease
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from tests.engine.simulation.journal import PROMPT, End, Journal, Place, Run
from tests.engine.simulation.program import QUICK_RETRIES
from tests.engine.simulation.universe import EPOCH, State, Universe

LATE = 5.0
"""A lease that has less than this left when it is given was asked for long ago."""

LONGER = 1.0
"""By how much a lease may be longer than was asked for (E15)."""


@define(eq=False)
class Grant:
    """A lease that was given; *left* is what it had when it was, *ends* moves with each renewal."""

    lease: Lease
    worker: str
    at: float
    ends: float
    left: float
    lapses: int
    attempt: int
    known_at: float | None = None
    run: Run | None = None
    outcome: Outcome | None = None
    is_refused: bool = False
    is_void: bool = False


@define(eq=False)
class Known:
    """A job that was stored."""

    job: JobRecord
    due: float
    expires: float | None
    grants: list[Grant] = field(factory=list)
    is_cancelled: bool = False
    requeues: int = 0

    @property
    def latest(self) -> Grant | None:
        """The lease that was given last."""
        return self.grants[-1] if self.grants else None


class Ledger:
    """
    Every job that was stored and every lease that was given.

    Attributes:
        jobs: By tracking id.
        places: The processes, by their workers' ids.
        troubled_at: When a call to renew leases last failed, by worker.
        counts: What the floors of a run are made of.
    """

    def __init__(self, universe: Universe, journal: Journal) -> None:
        self._universe = universe
        self._journal = journal
        self.jobs: dict[UUID, Known] = {}
        self.places: dict[str, Place] = {}
        self.troubled_at: dict[str, float] = {}
        self.counts: Counter[str] = Counter()

    # -- what others ask -----------------------------------------------------------------------------------------------

    def name(self, tracking_id: UUID) -> str:
        """Return a short name of a job, the same for the same seed."""
        known = self.jobs.get(tracking_id)
        return f"job {str(tracking_id)[-6:]}" if known is None else f"{known.job.queue_id} {str(tracking_id)[-6:]}"

    def grant_of(self, lease: Lease, worker: str) -> Grant | None:
        """Return the claim by which *worker* was given *lease*."""
        known = self.jobs.get(lease.tracking_id)
        grants = [] if known is None else known.grants
        return next((grant for grant in grants if grant.lease == lease and grant.worker == worker), None)

    def stands(self, grant: Grant) -> bool:
        """Whether the storage would still accept a settlement under this lease."""
        known = self.jobs[grant.lease.tracking_id]
        may_have_expired = known.expires is not None and max(known.expires, grant.ends) <= self._universe.now
        return known.latest is grant and grant.outcome is None and not grant.is_void and not may_have_expired

    def held_by(self, worker: str) -> Iterator[Grant]:
        """Return the leases that *worker* knows of and that stand: those jobs die with it."""
        latest = (known.latest for known in self.jobs.values())
        return (
            grant
            for grant in latest
            if grant is not None and grant.worker == worker and grant.known_at is not None and self.stands(grant)
        )

    def is_done_with(self, grant: Grant) -> bool:
        """Whether nobody runs the job again because this lease has ended."""
        known = self.jobs[grant.lease.tracking_id]
        may_have_expired = known.expires is not None and known.expires <= self._universe.now
        return grant.outcome is not None or grant.is_void or may_have_expired

    def is_troubled(self, grant: Grant) -> bool:
        """Whether a renewal has failed since this lease was given, or it was given late."""
        is_late = grant.known_at is None or grant.known_at - grant.at > PROMPT or grant.left < LATE
        return is_late or self.troubled_at.get(grant.worker, -1.0) >= grant.at

    def due_at(self, tracking_id: UUID) -> float:
        """Return from when on a job may start."""
        return self.jobs[tracking_id].due

    # -- what the storage does -----------------------------------------------------------------------------------------

    def stored(self, jobs: Sequence[JobRecord], standing: Sequence[UUID]) -> None:
        """Jobs were stored."""
        for job, tracking_id in zip(jobs, standing, strict=True):
            if job.tracking_id == tracking_id and tracking_id not in self.jobs:
                expires = None if job.expire_on is None else seconds(job.expire_on)
                self.jobs[tracking_id] = Known(job, seconds(job.execute_after), expires)
                self._journal.note(f"stored {self.name(tracking_id)}")

    def asked(self, claim: Claim) -> None:
        """Somebody asks for jobs."""
        place = self.places[claim.worker_id]
        if place.is_stopping:
            self._journal.violated("E5", f"{place.name} claims although it is stopping")
        for demand in claim.demands:
            strange = set(demand.queue_ids) - place.slots.keys()
            if strange:
                self._journal.violated("E10", f"{place.name} asks for jobs of {strange}, for which it has no handler")

    def claimed(self, claim: Claim, jobs: Sequence[JobRecord]) -> None:
        """Leases were given."""
        now = self._universe.now
        for job in jobs:
            known = self.jobs[job.tracking_id]
            before = known.latest
            if job.lapses and before is not None and before.outcome is None:
                self.counts["lapsed"] += 1
                self._check_lapse(before)
            grant = Grant(
                lease=job.lease,
                worker=claim.worker_id,
                at=now,
                ends=seconds(job.dequeue_after),
                left=seconds(job.dequeue_after) - now,
                lapses=job.lapses,
                attempt=job.attempt,
            )
            known.grants.append(grant)
            self._journal.note(f"{claim.worker_id} claims {self.name(job.tracking_id)} fence {job.fence}")
            self._check_length(grant, claim.lease_for.total_seconds())

    def delivered(self, leases: Collection[Lease]) -> None:
        """Whoever claimed has got the answer."""
        for lease in leases:
            grant = self.jobs[lease.tracking_id].latest
            if grant is not None and grant.lease == lease:
                grant.known_at = self._universe.now

    def renewed(
        self, leases: Collection[Lease], lost: frozenset[Lease], *, now: datetime, lease_for: timedelta
    ) -> None:
        """Leases were made to end later."""
        for lease in leases:
            grant = self.jobs[lease.tracking_id].latest
            if lease not in lost and grant is not None:
                grant.ends = seconds(now + lease_for)
                self._check_length(grant, lease_for.total_seconds())

    def settled(self, settlements: Sequence[Settlement], refused: frozenset[Lease]) -> None:
        """Outcomes were accepted or refused."""
        for settlement in settlements:
            lease, outcome = settlement.lease, settlement.outcome
            grant = next(grant for grant in self.jobs[lease.tracking_id].grants if grant.lease == lease)
            if lease in refused:
                grant.is_refused = True
                self._journal.note(f"refused: {type(outcome).__name__} of {self.name(lease.tracking_id)}")
            elif grant.outcome is not None:
                if type(grant.outcome) is not type(outcome):
                    self._journal.violated("I3", f"{self.name(lease.tracking_id)} is settled twice under one lease")
            else:
                self._journal.note(f"{type(outcome).__name__} of {self.name(lease.tracking_id)} fence {lease.fence}")
                self._check_settlement(grant, outcome)
                grant.outcome = outcome

    def cancelled(self, tracking_id: UUID, answer: Cancellation) -> None:
        """A job was cancelled, or was not there to be cancelled."""
        known = self.jobs.get(tracking_id)
        if answer is not Cancellation.CANCELLED or known is None or known.is_cancelled:
            return
        known.is_cancelled = True
        if known.latest is not None:
            known.latest.is_void = True
        self._journal.note(f"cancelled {self.name(tracking_id)}")
        if any(run.grant is known.latest for run in self._journal.runs_of(tracking_id)):
            self.counts["cancelled while running"] += 1

    def requeued(self, tracking_id: UUID, answer: Requeue, *, now: datetime, expire_on: datetime | None) -> None:
        """A job may have been requeued."""
        if answer is Requeue.REQUEUED:
            known = self.jobs[tracking_id]
            known.requeues += 1
            known.due = seconds(now)
            known.expires = None if expire_on is None else seconds(expire_on)
            known.is_cancelled = False
            if known.latest is not None:
                known.latest.is_void = True
            self._journal.note(f"requeued {self.name(tracking_id)}")

    # -- the rules -----------------------------------------------------------------------------------------------------

    def _check_length(self, grant: Grant, lease_for: float) -> None:
        if grant.ends > self._universe.now + lease_for + LONGER:
            self._journal.violated("E15", f"a lease of {grant.worker} is {grant.ends - self._universe.now:.2f} s long")

    def _check_lapse(self, grant: Grant) -> None:
        """A lease of a living worker whose renewals get through never lapses (E4, E6)."""
        place = self.places[grant.worker]
        since = grant.at
        is_excused = (
            grant.known_at is None
            or place.state is not State.ALIVE
            or place.thawed_at >= since
            or place.is_stopping
            or self.is_troubled(grant)
        )
        if not is_excused:
            self._journal.violated(
                "E6", f"a lease of {grant.worker} on {self.name(grant.lease.tracking_id)} lapsed for no reason"
            )

    def _check_settlement(self, grant: Grant, outcome: Outcome) -> None:
        run, name = grant.run, self.name(grant.lease.tracking_id)
        if run is not None and run.end is None and run.place.state is not State.DEAD:
            self._journal.violated("E3", f"{name} is settled while its handler, #{run.number}, runs")
        match outcome:
            case Succeeded():
                self._check_success(grant, outcome)
            case Retry(error=error) | Failed(error=error):
                if run is None and error.kind not in WITHOUT_A_RUN:
                    self._journal.violated("E8", f"{name} failed with {error.kind}, but never ran")
                elif run is not None and run.end is End.STOPPED and error.kind != TIME_LIMIT:
                    self._journal.violated("E2", f"{name} was told to stop ({run.told}), and counts as failed")
                if error.kind == DIED and grant.lapses < 3:
                    self._journal.violated("E14", f"{name} was condemned after {grant.lapses} deaths")
                self._check_tries(grant, outcome)
            case Release():
                if run is not None and run.end is End.RETURNED:
                    self._journal.violated("E4", f"{name} is given back, although #{run.number} has returned")

    def _check_tries(self, grant: Grant, outcome: Retry | Failed) -> None:
        """The retry policy counts what failed, not who died (E14); what expires first is not tried again."""
        tries, name = grant.attempt - grant.lapses, self.name(grant.lease.tracking_id)
        has_tries_left = tries < QUICK_RETRIES.max_attempts
        is_over = isinstance(outcome, Failed)
        if outcome.error.kind != RAISED or (is_over and self.jobs[grant.lease.tracking_id].expires is not None):
            return
        if is_over is has_tries_left:
            self._journal.violated("E14", f"{type(outcome).__name__} of {name} at try {tries}, {grant.lapses} deaths")

    def _check_success(self, grant: Grant, outcome: Succeeded) -> None:
        run, name = grant.run, self.name(grant.lease.tracking_id)
        if run is None or run.end is not End.RETURNED:
            self._journal.violated("I6", f"{name} succeeded, but its handler has not returned")
            return
        stored = None if outcome.result is None else outcome.result.data
        if stored != run.result:
            self._journal.violated("I6", f"{name} has the result {stored!r}, its handler gave {run.result!r}")


def seconds(instant: datetime) -> float:
    """Return when *instant* is in the universe."""
    return (instant - EPOCH).total_seconds()


DIED = "pannier.WorkerDied"
RAISED = "ValueError"
TIME_LIMIT = "pannier.errors.TimeLimitExceededError"
WITHOUT_A_RUN = frozenset({DIED, "pannier.errors.DecodingError"})
