"""Judges a run: holds what was written down against what the storage has in the end, by the invariants I1 to I8."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final
from uuid import UUID

from attrs import field, frozen

from pannier.records import JobRecord, JobStatus
from pannier_testing.torture.jobs import result_of
from pannier_testing.torture.plan import FaultKind, Plan
from pannier_testing.torture.roles import OVERRUN
from pannier_testing.torture.testimony import Affliction, Held, Run, Settling, Taking, Testimony

FINAL: Final = frozenset({"Succeeded", "Failed"})
GIVEN_BACK: Final = frozenset({"Retry", "Release"})

INEXACT_SECONDS: Final = 1.0
"""What the storage's clock and this machine's may seem to differ by: a reading takes its time (E15)."""

CONDEMNED: Final = "pannier.WorkerDied"
"""What stands in a job that outlived three workers in a row (E14); somebody looks at it, and requeues it."""

OUTAGES: Final = (FaultKind.FREEZE, FaultKind.NETWORK, FaultKind.SERVER, FaultKind.DISK, FaultKind.READ_ONLY)
"""Faults that keep a storage from answering; a process that stands still may hold its lock."""

STORAGE_ERRORS: Final = frozenset(
    {"StorageUnavailableError", "StorageBusyError", "StorageRefusedError", "StorageConflictError"}
)

STANDSTILL_SECONDS: Final = 1.0
"""A storage that takes longer for a call stands still: its disk, or the whole machine."""

SHOWN: Final = 20
"""How many findings of one kind are told in words."""


@frozen
class Finding:
    """Something that must not be: which invariant it breaks, and what was seen."""

    invariant: str
    message: str


@frozen(kw_only=True)
class Remains:
    """
    What the storage has in the end.

    Attributes:
        jobs: Every job that it lists, or where it lists none, those that were asked for by their ids.
        has_results: Whether it keeps results.
        counts: How many it counts by status; None where it does not count.
    """

    jobs: Mapping[UUID, JobRecord]
    has_results: bool
    counts: Mapping[JobStatus, int] | None


@frozen(kw_only=True)
class Verdict:
    """
    What came out.

    Attributes:
        findings: What must not be. None of these: the run is clean.
        counts: The numbers that stand in a record.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, float] = field(factory=dict[str, float])


def judge(told: Testimony, remains: Remains, plan: Plan) -> Verdict:
    """Judge a run."""
    checks: dict[str, Callable[[], Iterator[str]]] = {
        "lost": lambda: _lost(told, remains),
        "unexpected": lambda: _unexpected(told, remains),
        "settled_twice": lambda: _settled_twice(told),
        "stale_writes_accepted": lambda: _stale_writes(told),
        "claimed_twice": lambda: _claimed_twice(told),
        "claimed_under_a_live_lease": lambda: _claimed_early(told),
        "handlers_overlapped": lambda: _overlapping(told),
        "fences_out_of_bounds": lambda: _fences(told, remains),
        "results_missing": lambda: _results(told, remains),
        "keys_broken": lambda: _keys(told, remains),
        "counts_wrong": lambda: _counts(remains),
        "started_before_due": lambda: _before_due(told),
        "leases_too_long": lambda: _too_long(told),
        "redeliveries_unexplained": lambda: _redelivered_without_cause(told),
        "stalls": lambda: iter(told.stalls),
        "processes_died": lambda: _died(told, plan),
        "errors_surfaced": lambda: _errors(told, plan),
    }
    findings, counts = list[Finding](), dict[str, float]()
    for name, check in checks.items():
        found = list(check())
        counts[name] = len(found)
        findings += [Finding(name, message) for message in found[:SHOWN]]
    return Verdict(findings=tuple(findings), counts=counts | _measured(told, remains, plan.lease_seconds))


def _lost(told: Testimony, remains: Remains) -> Iterator[str]:
    """I1: every acknowledged job is there, and as it should be in the end."""
    for tracking_id in told.acknowledged:
        job = remains.jobs.get(tracking_id)
        answers = told.cancelled.get(tracking_id, set())
        if job is None:
            yield f"job {tracking_id} was acknowledged and is gone"
        elif job.status is JobStatus.CANCELLED and not answers:
            yield f"job {tracking_id} is cancelled, and nobody asked for it"
        elif job.status is not JobStatus.CANCELLED and "cancelled" in answers:
            yield f"job {tracking_id} is {job.status}, though its cancellation was acknowledged"
        elif _awaits_a_requeue(told, job):
            continue
        elif job.status not in {JobStatus.SUCCEEDED, JobStatus.CANCELLED}:
            yield f"job {tracking_id} is {job.status} in the end; its errors: {[str(each) for each in job.errors]}"
        elif job.status is JobStatus.SUCCEEDED and not _was_completed(told, tracking_id):
            yield f"job {tracking_id} is succeeded, but no handler of it came to its end"


def _awaits_a_requeue(told: Testimony, job: JobRecord) -> bool:
    """Whether *job* was condemned, as it may be (E14), in a run that stalled before somebody could look at it."""
    is_condemned = job.status is JobStatus.FAILED and bool(job.errors) and job.errors[-1].kind == CONDEMNED
    return is_condemned and bool(told.stalls)


def _was_completed(told: Testimony, tracking_id: UUID) -> bool:
    return any(run.is_complete for run in told.runs.get(tracking_id, ()))


def _unexpected(told: Testimony, remains: Remains) -> Iterator[str]:
    """I2: nothing is there that nobody wanted to store."""
    for tracking_id in remains.jobs.keys() - told.intents.keys():
        yield f"job {tracking_id} is there, and nobody stored it"
    for tracking_id in told.takings.keys() - told.intents.keys():
        yield f"job {tracking_id} was claimed, and nobody stored it"


def _settled_twice(told: Testimony) -> Iterator[str]:
    """I3: a job is ended once, by one fence; a call whose answer was lost may be repeated under that fence."""
    ended: dict[UUID, dict[int, set[str]]] = defaultdict(dict)
    for (tracking_id, fence), settlings in told.settlings.items():
        outcomes = {settling.outcome for settling in settlings} & FINAL
        if outcomes:
            ended[tracking_id][fence] = outcomes
    for tracking_id, fences in ended.items():
        if len(fences) > 1 + told.requeued[tracking_id] or any(len(outcomes) > 1 for outcomes in fences.values()):
            yield f"job {tracking_id} was ended more than once: {dict(sorted(fences.items()))}"


def _stale_writes(told: Testimony) -> Iterator[str]:
    """I3: nothing is accepted under a fence after a later claim of the job was answered."""
    for (tracking_id, fence), settlings in told.settlings.items():
        for settling, taking in _product(settlings, told.takings.get(tracking_id, ())):
            if taking.fence > fence and settling.tried > taking.place:
                yield (
                    f"job {tracking_id}: {settling.outcome} under fence {fence} was accepted after fence "
                    f"{taking.fence} had been given out"
                )
                break


def _product(settlings: Sequence[Settling], takings: Sequence[Taking]) -> Iterator[tuple[Settling, Taking]]:
    return ((settling, taking) for settling in settlings for taking in takings)


def _claimed_twice(told: Testimony) -> Iterator[str]:
    """No two claims of a job are given the same fence."""
    for tracking_id, takings in told.takings.items():
        fences = Counter(taking.fence for taking in takings)
        for fence, times in fences.items():
            if times > 1:
                yield f"job {tracking_id} was given out {times} times under fence {fence}"


def _claimed_early(told: Testimony) -> Iterator[str]:
    """I4: while a lease is live, no other claim returns the job; by the claims' own instants, and by the clock."""
    for tracking_id, takings in told.takings.items():
        for first, second in pairwise(takings):
            held = tracking_id, first.fence
            if told.tried.get(held, set()) & GIVEN_BACK or told.requeued[tracking_id]:
                continue
            end, clock = told.ends[held], second.asked_at + told.clock_offset
            if second.now < end - 0.001 or clock < end - INEXACT_SECONDS:
                yield (
                    f"job {tracking_id}: fence {first.fence} was leased until {end:.3f}, fence {second.fence} was "
                    f"given out at {second.now:.3f} (by the clock {clock:.3f})"
                )


def _overlapping(told: Testimony) -> Iterator[str]:
    """I4: no two handlers of a job run at a time, unless the first one's process stood still meanwhile."""
    for tracking_id, runs in told.runs.items():
        for first, second in pairwise(sorted(runs, key=lambda run: run.started_at)):
            end = first.ended_at
            if end is None:
                end = told.dead_at.get(first.pid, float("inf"))
            is_over = second.started_at >= end
            if not is_over and not _stood_still(told.afflictions, first, second):
                yield (
                    f"job {tracking_id}: the handler under fence {first.fence} ran from {first.started_at:.3f} to "
                    f"{end:.3f}, the one under fence {second.fence} began at {second.started_at:.3f}"
                )


def _stood_still(afflictions: Sequence[Affliction], first: Run, second: Run) -> bool:
    """Its process was frozen, or had no memory to write the end down."""
    return any(
        first.pid in (each.pids if each.kind == FaultKind.MEMORY else each.frozen)
        and each.began_at < second.started_at
        and each.healed_at > first.started_at
        for each in afflictions
    )


def _fences(told: Testimony, remains: Remains) -> Iterator[str]:
    """I5: acknowledged claims and requeues <= fence <= attempted ones."""
    for tracking_id, job in remains.jobs.items():
        least = len(told.takings.get(tracking_id, ())) + told.requeued[tracking_id]
        if not least <= job.fence <= least + told.unanswered:
            yield f"job {tracking_id} has fence {job.fence}; {least} claims and requeues were answered"


def _results(told: Testimony, remains: Remains) -> Iterator[str]:
    """I6: a succeeded job has its result."""
    if not remains.has_results:
        return
    for tracking_id, job in remains.jobs.items():
        intent = told.intents.get(tracking_id)
        if job.status is JobStatus.SUCCEEDED and intent is not None:
            result = None if job.result is None else job.result.data
            if result != result_of(intent.number):
                yield f"job {tracking_id} has the result {result!r} instead of {result_of(intent.number)}"


def _keys(told: Testimony, remains: Remains) -> Iterator[str]:
    """I7: one job for each key, whatever was repeated."""
    for key, ids in told.answers.items():
        if len(ids) > 1:
            yield f"the key {key!r} was answered with {len(ids)} jobs: {sorted(map(str, ids))}"
    stored = Counter((job.queue_id, job.idempotency_key) for job in remains.jobs.values() if job.idempotency_key)
    for (queue_id, key), times in stored.items():
        if times > 1:
            yield f"{times} jobs of {queue_id} have the key {key!r}"


def _counts(remains: Remains) -> Iterator[str]:
    """I8: what is counted is what is listed."""
    if remains.counts is None:
        return
    listed = Counter(job.status for job in remains.jobs.values())
    for status in JobStatus:
        if listed[status] != remains.counts.get(status, 0):
            yield f"{remains.counts.get(status, 0)} jobs are counted as {status}, {listed[status]} are listed"


def _before_due(told: Testimony) -> Iterator[str]:
    """E15: nothing is started early, whatever the processes' own clocks say."""
    for tracking_id, runs in told.runs.items():
        intent = told.intents.get(tracking_id)
        for run in runs:
            if intent is not None and run.started_at + told.clock_offset < intent.due - INEXACT_SECONDS / 4:
                yield f"job {tracking_id} was due at {intent.due:.3f} and started at {run.started_at:.3f}"


def _too_long(told: Testimony) -> Iterator[str]:
    """E15: no lease is longer than was asked for and a second."""
    if told.longest_lease > INEXACT_SECONDS:
        yield f"a lease was {told.longest_lease:.3f} s longer than was asked for"


def _redelivered_without_cause(told: Testimony) -> Iterator[str]:
    """Redeliveries are at most what a fault had in its hands, and what was claimed without an answer."""
    seen, bound = _redeliveries(told), sum(_in_flight(told)) + told.unanswered_limit
    if seen > bound:
        yield f"{seen} jobs were redelivered; the faults had {bound} in their hands"


def _died(told: Testimony, plan: Plan) -> Iterator[str]:
    """A process ends when it is told to, or a lease is about to end; it may fail to start while there is no storage."""
    for kind, message in told.died:
        left_in_time = kind == "Ended" and message.startswith(f"with {OVERRUN},")
        has_reason = kind in STORAGE_ERRORS and any(map(plan.has, OUTAGES))
        if not left_in_time and not has_reason and not plan.has(FaultKind.MEMORY):
            yield f"a process died by itself of {kind}: {message}"


def _errors(told: Testimony, plan: Plan) -> Iterator[str]:
    """While the storage is well, no call of it raises: locks are its own affair. Other errors than its own never."""
    for (verb, kind), seconds in told.errors.items():
        if plan.has(FaultKind.MEMORY):
            continue
        if kind.startswith("!") or not any(map(plan.has, OUTAGES)):
            slowest = f"the slowest after {max(seconds):.1f} s"
            yield f"{len(seconds)} calls of {verb} raised {kind.removeprefix('!')}, {slowest}"


def _redeliveries(told: Testimony) -> int:
    return sum(
        max(0, taking.lapses - before)
        for takings in told.takings.values()
        for before, taking in zip([0, *(each.lapses for each in takings)], takings, strict=False)
    )


def _in_flight(told: Testimony) -> Iterator[int]:
    """Give for each fault how many jobs those held whom it touched, at any time while it lasted."""
    held = _held_by_pid(told)
    for each in told.afflictions:
        yield sum(
            began <= each.healed_place and each.place <= end for pid in each.pids for _, began, end in held.get(pid, ())
        )


def _held_by_pid(told: Testimony) -> Mapping[int, Sequence[tuple[Held, int, int]]]:
    """Return what each process held, from where to where in the journal."""
    held: dict[int, list[tuple[Held, int, int]]] = defaultdict(list)
    for tracking_id, takings in told.takings.items():
        for taking in takings:
            lease = tracking_id, taking.fence
            end = min((settling.place for settling in told.settlings.get(lease, ())), default=2**62)
            held[taking.pid].append((lease, taking.place, end))
    return held


def _measured(told: Testimony, remains: Remains, lease_seconds: float) -> dict[str, float]:
    restarts = list(_restarts(told))
    delays = [again - died_at for died_at, again in restarts]
    late = [(died_at, again) for died_at, again in restarts if again - died_at > lease_seconds + 1]
    return {
        "jobs_acknowledged": len(told.acknowledged),
        "jobs_found": len(remains.jobs),
        "claims": sum(map(len, told.takings.values())),
        "executions": sum(map(len, told.runs.values())),
        "redeliveries": _redeliveries(told),
        "in_flight_at_faults": sum(_in_flight(told)),
        "zombies": sum(len(each.frozen) for each in told.afflictions),
        "zombies_with_jobs": _zombies_with_jobs(told),
        "leases_refused": _refused(told),
        "interrupted_handlers_restarted": len(delays),
        "restarted_late": len(late),
        "late_in_a_standstill": sum(_stood_before(told, again) for _, again in late),
        "longest_restart_seconds": round(max(delays, default=0.0), 3),
        "longest_recovery_seconds": round(max(_recoveries(told), default=0.0), 3),
        "busy_percent_while_down": round(100 * told.down_busy / told.down_seconds, 2) if told.down_seconds else 0.0,
        "processes_that_left_in_time": told.overruns,
        "condemned_and_requeued": sum(told.requeued.values()),
    }


def _refused(told: Testimony) -> int:
    return sum(bool(tried) and lease not in told.settlings for lease, tried in told.tried.items())


def _zombies_with_jobs(told: Testimony) -> int:
    held = _held_by_pid(told)
    return sum(
        any(began <= each.place <= end for _, began, end in held.get(pid, ()))
        for each in told.afflictions
        for pid in each.frozen
    )


def _stood_before(told: Testimony, at: float) -> bool:
    """Whether the storage stood still for somebody who called it, in the second before *at*."""
    return any(
        answered_at - asked_at > STANDSTILL_SECONDS and asked_at < at and at - 1 < answered_at
        for calls in told.answered_at.values()
        for asked_at, answered_at in calls
    )


def _restarts(told: Testimony) -> Iterator[tuple[float, float]]:
    """
    Give when a kill had interrupted a handler, and when that was started again.

    Only where the next lease led to it: the next worker may have been killed before it began, or have given the job
    back to run it alone (E14). And only where nothing else was wrong meanwhile.
    """
    outages = [each for each in told.afflictions if each.kind != FaultKind.KILL]
    killed = {pid for each in told.afflictions if each.kind == FaultKind.KILL for pid in each.pids}
    for runs in told.runs.values():
        started = {run.fence: run for run in runs}
        for run in runs:
            again = started.get(run.fence + 1)
            if run.ended_at is None and run.pid in killed and again is not None:
                died_at = told.dead_at[run.pid]
                if not any(each.began_at < again.started_at and died_at < each.healed_at for each in outages):
                    yield died_at, again.started_at


def _recoveries(told: Testimony) -> Iterator[float]:
    """
    Give how long after the end of each fault each of its victims was answered again, by a call made after that end.

    Only where it came before the next fault.
    """
    outages = [each for each in told.afflictions if each.kind != FaultKind.CLOCK]
    for number, each in enumerate(outages):
        if each.kind in {FaultKind.KILL, FaultKind.FREEZE}:
            continue
        until = min((later.began_at for later in outages[number + 1 :][:1]), default=float("inf"))
        for pid in each.pids:
            calls = told.answered_at.get(pid, [])
            first = next((end for began, end in calls if began >= each.healed_at), None)
            if first is not None and first < until:
                yield first - each.healed_at
