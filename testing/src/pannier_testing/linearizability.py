"""
Is there one order of all calls that explains every answer? The search of Wing and Gong, over the reference model.

A call takes effect at some moment between its beginning and its end. A batch counts as one step a job. A claim may pass
over what a concurrent call is about, or what a concurrent claim may hold for a moment, and its next_due is a bound.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeAlias
from uuid import UUID

from attrs import evolve, frozen

from pannier.claims import Claim, Claimed
from pannier.records import JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.checks import same
from pannier_testing.reference.model import Model
from pannier_testing.scenes import Act

State: TypeAlias = Mapping[UUID, JobRecord]


@frozen
class Call:
    """
    A call that was made, and answered.

    Attributes:
        act: The call.
        answer: What came back.
        began: When it began, on the history's own clock.
        ended: When its answer came.
    """

    act: Act
    answer: object
    began: int
    ended: int

    def about(self) -> frozenset[UUID]:
        """Return the ids of the jobs that it names or was given."""
        return frozenset(_ids_in(self.act.arguments)) | frozenset(_ids_in(self.answer))

    def overlaps(self, other: "Call") -> bool:
        """Whether both were under way at the same moment."""
        return self.began < other.ended and other.began < self.ended


@frozen
class Step:
    """
    One step of a call.

    Attributes:
        call: The call.
        takes: Changes the model as the call did, and says whether the answer agrees.
        words: What it does, for people.
    """

    call: Call
    takes: Callable[[Model], bool]
    words: str


def explain(before: Sequence[JobRecord], calls: Sequence[Call], grid: timedelta) -> bool:
    """Return whether some order of the *calls*, begun with the jobs *before*, gives all of their answers."""
    steps = [step for call in calls for step in _steps(call, _overlapping(call, calls))]
    model = Model(grid)
    for job in before:
        model.store_one(job)
    return _is_explained(model, steps, frozenset(range(len(steps))), set())


def _is_explained(
    model: Model, steps: Sequence[Step], left: frozenset[int], failed: set[tuple[frozenset[int], int]]
) -> bool:
    if not left:
        return True
    key = (left, _fingerprint(model))
    if key in failed:
        return False
    first_end = min(steps[number].call.ended for number in left)
    for number in sorted(left):
        if steps[number].call.began > first_end:
            continue
        jobs, keys = dict(model.jobs), dict(model.keys)
        if steps[number].takes(model) and _is_explained(model, steps, left - {number}, failed):
            return True
        model.jobs, model.keys = jobs, keys
    failed.add(key)
    return False


def _fingerprint(model: Model) -> int:
    """Return what differs where anything differs that a call can change: else an order that fits is passed over."""
    return hash(frozenset(map(_changeable, model.jobs.values())))


def _changeable(job: JobRecord) -> tuple[object, ...]:
    return (
        job.tracking_id,
        job.status,
        job.fence,
        job.attempt,
        job.lapses,
        job.execute_after,
        job.dequeue_after,
        job.worker_id,
        job.errors,
        job.finished_at,
        repr((job.result, job.progress)),  # payloads may hold what can't be hashed
    )


def _overlapping(call: Call, calls: Sequence[Call]) -> frozenset[UUID]:
    """
    Return the jobs that *call* may find in other hands: those that calls beside it are about.

    A claim beside it may hold for a moment what it does not get, since another call beside that one was quicker.
    """
    beside = [other for other in calls if other is not call and call.overlaps(other)]
    claims = [other for other in beside if other.act.verb == "claim_jobs"]
    quicker = [other for claim in claims for other in calls if other is not call and claim.overlaps(other)]
    return frozenset[UUID]().union(*(other.about() for other in (*beside, *quicker)))


def _steps(call: Call, contended: frozenset[UUID]) -> Iterator[Step]:
    arguments = call.act.arguments
    match call.act.verb, call.answer:
        case "store_jobs", list(standing):
            for job, one in zip(_jobs(arguments["jobs"]), standing, strict=True):
                yield Step(call, partial(_stores, job, one), f"store {job.tracking_id}")
        case "claim_jobs", Claimed() as claimed:
            claim = arguments["claim"]
            assert isinstance(claim, Claim)
            for job in claimed.jobs:
                yield Step(call, partial(_gives, claim, job, contended), f"claim {job.tracking_id}")
            yield Step(call, partial(_gives_no_more, claim, claimed, contended), "claim no more")
        case "settle_jobs", frozenset() as refused:
            for settlement in _settlements(arguments["settlements"]):
                act = Act("settle_jobs", {**arguments, "settlements": [settlement]})
                answer = frozenset({settlement.lease}) & refused
                yield Step(call, partial(_answers, act, answer), f"settle {settlement.lease}")
        case "renew_leases", frozenset() as lost:
            for lease in _leases(arguments["leases"]):
                act = Act("renew_leases", {**arguments, "leases": [lease]})
                yield Step(call, partial(_answers, act, frozenset({lease}) & lost), f"renew {lease}")
        case _:
            yield Step(call, partial(_answers, call.act, call.answer), call.act.verb)


def _answers(act: Act, answer: object, model: Model) -> bool:
    return same(act.on_model(model), answer)


def _stores(job: JobRecord, standing: UUID, model: Model) -> bool:
    return model.store_one(job) == standing


def _gives(claim: Claim, job: JobRecord, contended: frozenset[UUID], model: Model) -> bool:
    """See that *job* was due, and that nothing that nobody else was about came before it."""
    due = _due(claim, model)
    if job.tracking_id not in {other.tracking_id for other in due}:
        return False
    before = [other for other in due if model.turn(other)[:-1] < model.turn(model.jobs[job.tracking_id])[:-1]]
    if any(other.tracking_id not in contended for other in before):
        return False
    return same(model.put(model.leased(model.jobs[job.tracking_id], claim)), job)


def _gives_no_more(claim: Claim, claimed: Claimed, contended: frozenset[UUID], model: Model) -> bool:
    """See that a claim that gave less than asked left nothing that nobody else was about, and its bound is one."""
    (demand,) = claim.demands
    left = [job for job in _due(claim, model) if job.tracking_id not in contended]
    is_asked_again = claimed.next_due is not None and claimed.next_due <= claim.now
    if left and len(claimed.jobs) < demand.limit and not is_asked_again:
        return False
    exact = model.next_due(claim, {job.tracking_id for job in claimed.jobs} | contended)
    return exact is None or (claimed.next_due is not None and claimed.next_due <= max(exact, claim.now))


def _due(claim: Claim, model: Model) -> list[JobRecord]:
    (demand,) = claim.demands
    return model.choose(evolve(claim, demands=(evolve(demand, limit=10_000),)))


def _jobs(value: object) -> list[JobRecord]:
    assert isinstance(value, list)
    return value


def _settlements(value: object) -> list[Settlement]:
    assert isinstance(value, list)
    return value


def _leases(value: object) -> list[Lease]:
    assert isinstance(value, list)
    return value


def _ids_in(value: object) -> Iterator[UUID]:
    match value:
        case UUID():
            yield value
        case JobRecord() | Lease():
            yield value.tracking_id
        case Settlement():
            yield value.lease.tracking_id
        case Claimed():
            yield from (job.tracking_id for job in value.jobs)
        case dict():
            for each in value.values():
                yield from _ids_in(each)
        case list() | tuple() | frozenset():
            for each in value:
                yield from _ids_in(each)
        case _:
            pass
