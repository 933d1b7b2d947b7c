"""The journal: every run of a handler, and what the engine's rules say of it at the moment it happens."""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from attrs import define, field

from pannier import StopReason
from pannier.records import Lease
from tests.engine.simulation.universe import Host, State, Universe

if TYPE_CHECKING:
    from tests.engine.simulation.ledger import Grant, Ledger

CLOCK_ERROR: Final = 0.2
"""By how much a worker's idea of the storage's time may be wrong here: half of the slowest reading, and a bit."""

PROMPT: Final = 0.1
"""How soon something happens that depends on nobody."""


class End(Enum):
    """How a run ended."""

    RETURNED = "returned"
    RAISED = "raised"
    STOPPED = "stopped"
    """By the cancellation that it was told."""
    DIED = "died"
    """With its process."""


class Place(Host, Protocol):
    """
    The process of a run, as the rules see it.

    Attributes:
        name: Its name, which is its worker's id.
        thawed_at: When it was last unfrozen; it may do anything for a moment.
        is_stopping: Whether it was asked to stop, and knows.
        slots: How many handlers it may run at once, by queue; a queue that is missing is none of its business.
        limits: How long they may run, by queue.
    """

    name: str
    thawed_at: float
    is_stopping: bool
    slots: dict[str, int]
    limits: dict[str, float]

    def kill(self) -> None:
        """End it at once."""
        ...


@define(eq=False)
class Run:
    """One call of a handler."""

    number: int
    grant: "Grant"
    place: Place
    queue: str
    started: float
    is_alone: bool
    is_stubborn: bool
    told: StopReason | None = None
    told_at: float = 0.0
    ended: float | None = None
    end: End | None = None
    result: object = None
    was_held: bool = False

    @property
    def was_frozen(self) -> bool:
        """Whether its process has stood still since it started."""
        return self.place.state is State.FROZEN or self.place.thawed_at >= self.started

    @property
    def was_blocked(self) -> bool:
        """Whether a handler has held its process's loop since it was claimed."""
        return self.place.is_blocked or self.place.blocked_at >= self.grant.at

    def lasted_until(self, at: float) -> bool:
        """Whether it was still under way then: no other run of its job starts in its process meanwhile (E13)."""
        return self.ended is None or self.ended >= at


@define
class Journal:
    """
    Every run there was.

    Attributes:
        universe: Where it happens.
        ledger: What the storage knows.
        violations: What should never have happened: the rule, and the story.
        runs: By their numbers.
        running: Those that have not ended.
    """

    universe: Universe
    ledger: "Ledger" = field(init=False)
    violations: list[str] = field(factory=list)
    runs: list[Run] = field(factory=list)
    running: dict[int, Run] = field(factory=dict)
    trace: list[str] = field(factory=list)
    is_over: bool = False

    def note(self, what: str) -> None:
        """Write down what happened, for whoever reads the history of a seed."""
        if not self.is_over:
            self.trace.append(f"{self.universe.now:10.4f} {what}")

    def violated(self, rule: str, story: str) -> None:
        """Take note that *rule* was broken."""
        if not self.is_over:
            self.note(f"VIOLATION of {rule}: {story}")
            self.violations.append(f"{rule}: {story}")

    def runs_of(self, tracking_id: UUID) -> Iterator[Run]:
        """Return the runs of a job that have not ended."""
        return (run for run in self.running.values() if run.grant.lease.tracking_id == tracking_id)

    def runs_in(self, place: Place) -> Iterator[Run]:
        """Return the runs of a process that have not ended."""
        return (run for run in self.running.values() if run.place is place)

    # -- what happens --------------------------------------------------------------------------------------------------

    def begin(self, place: Place, queue: str, lease: Lease, *, is_stubborn: bool) -> Run:
        """A handler was called, under a lease that may be the last but one: the answer to a claim takes its time."""
        tracking_id = lease.tracking_id
        grant = self.ledger.grant_of(lease, place.name)
        if grant is None:
            self.violated("I2", f"{place.name} runs {tracking_id}, which it has not claimed")
            raise AssertionError("a run without a claim")
        run = Run(
            number=len(self.runs),
            grant=grant,
            place=place,
            queue=queue,
            started=self.universe.now,
            is_alone=grant.lapses == 2,
            is_stubborn=is_stubborn,
        )
        self.note(f"{place.name} runs {self.ledger.name(tracking_id)} fence {grant.lease.fence} as #{run.number}")
        self._check_overlap(run)
        self._check_slot(run)
        self._check_grant(run)
        grant.run = run
        self.runs.append(run)
        self.running[run.number] = run
        return run

    def told(self, run: Run, reason: StopReason | None) -> None:
        """A handler was told to stop."""
        if run.told is not None or reason is None:
            return
        run.told, run.told_at = reason, self.universe.now
        self.note(f"{run.place.name} tells #{run.number} to stop: {reason}")
        match reason:
            case StopReason.CANCELLED | StopReason.LEASE_LOST:
                if self.ledger.stands(run.grant):
                    self.violated("E2", f"#{run.number} was told {reason}, but its lease stands")
            case StopReason.SHUTDOWN:
                if not run.place.is_stopping:
                    self.violated("E5", f"#{run.number} was told of a shutdown that nobody asked for")
            case StopReason.TIME_LIMIT:
                if self.universe.now < run.started + run.place.limits[run.queue] - PROMPT:
                    self.violated("E3", f"#{run.number} was stopped before its time limit")
            case StopReason.LEASE_ENDING:
                if not (run.was_frozen or run.was_blocked or self.ledger.is_troubled(run.grant)):
                    self.violated("E6", f"#{run.number} was stopped although its lease could be renewed")

    def ended(self, run: Run, end: End, result: object = None) -> None:
        """A handler has returned, or raised."""
        if run.place.state is State.DEAD or run.end is not None:
            return
        run.end, run.ended, run.result = end, self.universe.now, result
        run.was_held = run.was_frozen or run.was_blocked
        del self.running[run.number]
        self.note(f"{run.place.name} ends #{run.number}: {end.value}")
        self._check_lease_outlived(run)
        limit = run.place.limits.get(run.queue)
        is_late = limit is not None and run.ended - run.started > limit + PROMPT
        if is_late and run.told is None and not run.was_held:
            self.violated("E3", f"#{run.number} ran for {run.ended - run.started:.2f} s and was never told to stop")

    def died(self, place: Place) -> None:
        """A process is dead, and its handlers with it."""
        for run in tuple(self.runs_in(place)):
            run.end, run.ended = End.DIED, self.universe.now
            del self.running[run.number]
            self._check_lease_outlived(run)

    # -- the rules -----------------------------------------------------------------------------------------------------

    def _check_overlap(self, run: Run) -> None:
        for other in self.runs_of(run.grant.lease.tracking_id):
            if other.place is run.place:
                self.violated("E13", f"#{run.number} starts while #{other.number} runs the same job in its process")
            elif not (other.was_frozen or other.grant.is_void):  # one that was cancelled may be requeued
                self.violated(
                    "I4", f"#{run.number} starts while #{other.number} runs the same job in {other.place.name}"
                )
                if other.grant.ends + CLOCK_ERROR < self.universe.now:
                    self.violated("E6", f"#{other.number} still runs, whose lease has ended")

    def _check_slot(self, run: Run) -> None:
        slots = run.place.slots.get(run.queue)
        if slots is None:
            self.violated("E10", f"{run.place.name} runs a job of {run.queue}, for which it has no handler")
            return
        beside = list(self.runs_in(run.place))
        if sum(other.queue == run.queue for other in beside) >= slots:
            self.violated("E1", f"#{run.number} is one too many of {run.queue} in {run.place.name}")
        alone = [other for other in (run, *beside) if other.is_alone]
        if alone and beside:
            self.violated("E14", f"#{alone[0].number} has its last chance, and does not run alone")
        if run.is_alone and any(grant is not run.grant for grant in self.ledger.held_by(run.place.name)):
            self.violated("E14", f"#{run.number} has its last chance, and others would share its fate")

    def _check_grant(self, run: Run) -> None:
        grant, now = run.grant, self.universe.now
        is_excused = run.place.thawed_at >= grant.at
        if grant.run is not None:
            self.violated("E13", f"#{run.number} is the second run under one lease")
        if grant.lapses > 2:
            self.violated("E14", f"#{run.number} runs a job whose workers died {grant.lapses} times")
        is_held = grant.known_at is not None and now - grant.known_at > PROMPT
        if grant.lapses and is_held and not (is_excused or run.was_blocked or self._had_to_wait(run)):
            self.violated("E14", f"#{run.number} was held ahead although its worker had died")
        if grant.ends <= now and not is_excused:
            self.violated("E6", f"#{run.number} starts after its lease has ended")
        if run.place.is_stopping:
            self.violated("E5", f"#{run.number} starts although {run.place.name} is stopping")
        if now < self.ledger.due_at(grant.lease.tracking_id) - CLOCK_ERROR:
            self.violated("E15", f"#{run.number} starts before it is due")

    def _had_to_wait(self, run: Run) -> bool:
        """Whether an earlier run of the job, whose lease is long gone, was in the way when this one was claimed."""
        grant = run.grant
        return any(
            other.place is run.place
            and other.grant.lease.tracking_id == grant.lease.tracking_id
            and other.lasted_until(grant.at)
            for other in self.runs
        )

    def _check_lease_outlived(self, run: Run) -> None:
        assert run.ended is not None
        if run.was_frozen or self.ledger.is_done_with(run.grant):
            return
        if run.ended > run.grant.ends + CLOCK_ERROR:
            self.violated("E6", f"#{run.number} outlived its lease by {run.ended - run.grant.ends:.2f} s")
