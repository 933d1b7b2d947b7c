"""The state machine of a job: each transition against the table of what it may change, for any job and any instant."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import asdict, evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from pannier import transitions
from pannier.inspection import Requeue
from pannier.purging import StaleJobs
from pannier.records import COMPLETE, Cancellation, JobError, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier.transitions import Verdict

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
ERROR = JobError(attempt=1, at=T0, kind="ValueError", message="no")
RESULT = Payload("done")

INSTANTS = st.integers(0, 100).map(lambda count: T0 + count * SECOND)
UNFINISHED = frozenset(JobStatus) - COMPLETE


@st.composite
def jobs(draw: st.DrawFn, statuses: frozenset[JobStatus] = frozenset(JobStatus)) -> JobRecord:
    """Any job of one of *statuses* that a history could lead to."""
    status = draw(st.sampled_from(sorted(statuses)))
    lapses = draw(st.integers(0, 3))
    attempt = lapses + draw(st.integers(status is JobStatus.RUNNING, 5))
    execute_after = draw(INSTANTS)
    return JobRecord(
        tracking_id=UUID(int=1),
        queue_id="mail",
        command=Payload("hello"),
        execute_after=execute_after,
        expire_on=draw(st.none() | st.integers(1, 50).map(lambda count: execute_after + count * SECOND)),
        created_at=T0,
        status=status,
        attempt=attempt,
        lapses=lapses,
        fence=attempt + draw(st.integers(0, 3)),
        dequeue_after=draw(INSTANTS),
        worker_id="w" if status is JobStatus.RUNNING else None,
        progress=draw(st.sampled_from([None, Payload(1)])),
        result=RESULT if status is JobStatus.SUCCEEDED else None,
        errors=draw(st.sampled_from([(), (ERROR,)])),
        finished_at=draw(INSTANTS) if status in COMPLETE else None,
    )


RUNNING = frozenset({JobStatus.RUNNING})


def changed(before: JobRecord, after: JobRecord) -> dict[str, object]:
    """Return the fields that differ, with their new values."""
    names = [each.name for each in fields(JobRecord)]
    return {name: getattr(after, name) for name in names if getattr(before, name) != getattr(after, name)}


def expected(before: JobRecord, **new: object) -> dict[str, object]:
    """Return those of *new* that differ from what *before* has."""
    return {name: value for name, value in new.items() if getattr(before, name) != value}


def settle(job: JobRecord, outcome: Outcome, *, fence: int | None = None, now: datetime = T0) -> transitions.Settled:
    """Settle the attempt of *job*, under its own fence or another."""
    lease = Lease(job.tracking_id, job.fence if fence is None else fence)
    return transitions.settle(job, Settlement(lease, outcome), now=now)


@given(jobs(), INSTANTS)
def test_no_job_is_claimable_and_expirable_at_one_instant(job: JobRecord, now: datetime) -> None:
    """R21: the intervals are half-open; and what is complete or under a live lease is neither."""
    claimable, expirable = transitions.is_claimable(job, now), transitions.is_expirable(job, now)
    assert not (claimable and expirable)
    assert not ((job.is_complete or transitions.is_leased(job, now)) and (claimable or expirable))


@given(jobs(UNFINISHED))
def test_a_job_is_claimable_from_dequeue_after_until_its_expiry(job: JobRecord) -> None:
    """R19, R21, R37: at the first instant, not a microsecond before; not at the second."""
    unexpiring = evolve(job, expire_on=None)
    assert transitions.is_claimable(unexpiring, job.dequeue_after)
    assert not transitions.is_claimable(unexpiring, job.dequeue_after - TICK)
    end = max(job.dequeue_after, job.execute_after) + SECOND
    expiring = evolve(job, expire_on=end)
    assert transitions.is_claimable(expiring, end - TICK)
    assert not transitions.is_claimable(expiring, end)
    assert transitions.is_expirable(expiring, end)


@given(jobs(RUNNING))
def test_a_live_lease_keeps_an_expired_job_from_the_purge(job: JobRecord) -> None:
    """R73: until the lease's end, which is outside."""
    expired = evolve(job, expire_on=job.execute_after + TICK, dequeue_after=job.execute_after + SECOND)
    assert not transitions.is_expirable(expired, expired.dequeue_after - TICK)
    assert transitions.is_expirable(expired, expired.dequeue_after)


@given(jobs(UNFINISHED), INSTANTS)
def test_a_claim_leases_the_job_and_counts(job: JobRecord, now: datetime) -> None:
    """R33, R38: fence and attempt go up by one, lapses only where a lease is taken over."""
    claimed = transitions.claim(job, worker_id="new", now=now, lease_for=30 * SECOND)
    assert changed(job, claimed) == expected(
        job,
        status=JobStatus.RUNNING,
        attempt=job.attempt + 1,
        lapses=job.lapses + (job.status is JobStatus.RUNNING),
        fence=job.fence + 1,
        dequeue_after=now + 30 * SECOND,
        worker_id="new",
    )


@given(jobs(RUNNING), INSTANTS)
def test_a_renewal_moves_the_end_of_the_lease_and_nothing_else(job: JobRecord, now: datetime) -> None:
    """R39: to now + lease_for, also where that is earlier."""
    renewed = transitions.renew(job, now=now, lease_for=SECOND)
    assert changed(job, renewed) == expected(job, dequeue_after=now + SECOND)


@given(jobs(RUNNING), INSTANTS)
def test_success_keeps_the_result_and_ends_the_job(job: JobRecord, now: datetime) -> None:
    """R48, R68, R69: the progress is cleared, the attempt counted."""
    settled = settle(job, Succeeded(RESULT), now=now)
    assert settled.verdict is Verdict.APPLIED
    assert changed(job, settled.job) == expected(
        job, status=JobStatus.SUCCEEDED, result=RESULT, progress=None, lapses=0, finished_at=now
    )


@given(jobs(RUNNING), INSTANTS)
def test_failure_for_good_keeps_the_error_and_ends_the_job(job: JobRecord, now: datetime) -> None:
    """R55: the progress stays, to be looked at."""
    settled = settle(job, Failed(ERROR), now=now)
    assert settled.verdict is Verdict.APPLIED
    assert changed(job, settled.job) == expected(
        job, status=JobStatus.FAILED, lapses=0, finished_at=now, errors=(*job.errors, ERROR)
    )


@given(jobs(RUNNING), INSTANTS)
def test_a_retry_waits_until_its_time_and_forgives_the_lapses(job: JobRecord, at: datetime) -> None:
    """R52, R53: a dying worker burns nobody's tries."""
    settled = settle(evolve(job, expire_on=None), Retry(at, ERROR))
    assert settled.verdict is Verdict.APPLIED
    assert changed(evolve(job, expire_on=None), settled.job) == expected(
        job,
        status=JobStatus.PENDING,
        attempt=job.attempt - job.lapses,
        lapses=0,
        dequeue_after=at,
        worker_id=None,
        errors=(*job.errors, ERROR),
    )


@given(jobs(RUNNING), st.sampled_from([timedelta(0), TICK, 9 * SECOND]))
def test_a_retry_that_would_come_too_late_is_a_failure(job: JobRecord, late: timedelta) -> None:
    """R58: from the expiry on, which is half-open."""
    expiring = evolve(job, expire_on=job.execute_after + SECOND)
    assert expiring.expire_on is not None
    settled = settle(expiring, Retry(expiring.expire_on + late, ERROR))
    assert settled == settle(expiring, Failed(ERROR))
    assert settle(expiring, Retry(expiring.expire_on - TICK, ERROR)).job.status is JobStatus.PENDING


@given(jobs(RUNNING))
def test_a_release_gives_the_attempt_back_and_the_place(job: JobRecord) -> None:
    """R59: pending again at once, lapses and fence kept."""
    settled = settle(job, Release())
    assert settled.verdict is Verdict.APPLIED
    assert changed(job, settled.job) == expected(
        job,
        status=JobStatus.PENDING,
        attempt=job.attempt - 1,
        dequeue_after=job.execute_after,
        worker_id=None,
    )


OUTCOMES = st.sampled_from([Succeeded(RESULT), Failed(ERROR), Retry(T0, ERROR), Release()])


@given(jobs(), OUTCOMES, st.sampled_from([-1, 1]))
def test_a_settlement_under_another_fence_changes_nothing(job: JobRecord, outcome: Outcome, off: int) -> None:
    """R42, R43, R45: neither an older nor an invented one."""
    settled = settle(evolve(job, fence=job.fence + 2), outcome, fence=job.fence + 2 + off)
    assert (settled.verdict, settled.job) == (Verdict.REFUSED, evolve(job, fence=job.fence + 2))


@given(jobs(RUNNING), OUTCOMES, INSTANTS)
def test_a_settlement_may_be_repeated(job: JobRecord, outcome: Outcome, now: datetime) -> None:
    """R50: its first answer may be lost; the second time it changes nothing."""
    first = settle(job, outcome, now=T0)
    second = settle(first.job, outcome, now=now)
    assert (second.verdict, second.job) == (Verdict.REPEATED, first.job)


@given(jobs(COMPLETE), OUTCOMES)
def test_a_settlement_of_what_has_ended_otherwise_is_refused(job: JobRecord, outcome: Outcome) -> None:
    """R51: only a settlement whose own effect stands is accepted again."""
    fenced = evolve(job, fence=job.fence + 1)
    settled = settle(fenced, outcome)
    assert settled.job == fenced
    assert (settled.verdict is Verdict.REPEATED) is (fenced.status is transitions.leads_to(fenced, outcome))
    assert settled.verdict is not Verdict.APPLIED


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (JobStatus.PENDING, Cancellation.CANCELLED),
        (JobStatus.RUNNING, Cancellation.CANCELLED),
        (JobStatus.CANCELLED, Cancellation.CANCELLED),
        (JobStatus.SUCCEEDED, Cancellation.ALREADY_COMPLETE),
        (JobStatus.FAILED, Cancellation.ALREADY_COMPLETE),
        (JobStatus.EXPIRED, Cancellation.ALREADY_COMPLETE),
    ],
)
@given(data=st.data(), now=INSTANTS)
def test_a_cancel_ends_what_has_not_ended(
    data: st.DataObject, now: datetime, status: JobStatus, answer: Cancellation
) -> None:
    """R60-R63: once; what is complete stays as it is."""
    job = data.draw(jobs(frozenset({status})))
    given_answer, after = transitions.cancel(job, now=now)
    assert given_answer is answer
    assert changed(job, after) == ({} if job.is_complete else {"status": JobStatus.CANCELLED, "finished_at": now})


@given(jobs(UNFINISHED), INSTANTS)
def test_expiry_ends_the_job_and_keeps_its_payload(job: JobRecord, now: datetime) -> None:
    """R77: with the instant of the purge."""
    assert changed(job, transitions.expire(job, now=now)) == {"status": JobStatus.EXPIRED, "finished_at": now}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (JobStatus.PENDING, Requeue.NOT_COMPLETE),
        (JobStatus.RUNNING, Requeue.NOT_COMPLETE),
        (JobStatus.SUCCEEDED, Requeue.ALREADY_SUCCEEDED),
        (JobStatus.FAILED, Requeue.REQUEUED),
        (JobStatus.CANCELLED, Requeue.REQUEUED),
        (JobStatus.EXPIRED, Requeue.REQUEUED),
    ],
)
@given(data=st.data())
def test_what_did_not_succeed_can_be_requeued(data: st.DataObject, status: JobStatus, answer: Requeue) -> None:
    """R78: pending from now on under a new fence, its attempts counted anew; errors, key and metadata stay."""
    job = data.draw(jobs(frozenset({status})))
    given_answer, after = transitions.requeue(job, now=T0, expire_on=T0 + SECOND)
    fresh = expected(
        job,
        status=JobStatus.PENDING,
        execute_after=T0,
        dequeue_after=T0,
        expire_on=T0 + SECOND,
        attempt=0,
        lapses=0,
        fence=job.fence + 1,
        worker_id=None,
        progress=None,
        result=None,
        finished_at=None,
    )
    assert given_answer is answer
    assert changed(job, after) == (fresh if answer is Requeue.REQUEUED else {})


@given(jobs(COMPLETE))
def test_a_requeue_that_could_never_run_is_refused(job: JobRecord) -> None:
    """An expiry that is not after now."""
    with pytest.raises(ValueError, match="must lie after now"):
        transitions.requeue(job, now=T0, expire_on=T0)


@given(jobs())
def test_progress_is_kept_under_the_current_lease_only(job: JobRecord) -> None:
    """R44, R69: the last one wins, and nobody but the holder writes."""
    fenced = evolve(job, fence=job.fence + 1)
    standing = transitions.report(fenced, Lease(job.tracking_id, fenced.fence), RESULT)
    assert (standing is None) is (job.status is not JobStatus.RUNNING)
    assert transitions.report(fenced, Lease(job.tracking_id, fenced.fence + 1), RESULT) is None


@given(jobs(COMPLETE))
def test_retention_is_counted_from_the_end_of_the_job(job: JobRecord) -> None:
    """R72: over at finished_at + keep, not a microsecond before; a status that is absent is kept for ever."""
    assert job.finished_at is not None
    over = job.finished_at + SECOND
    assert transitions.is_over(job, StaleJobs(now=over, keep={job.status: SECOND}))
    assert not transitions.is_over(job, StaleJobs(now=over - TICK, keep={job.status: SECOND}))
    others = {status: timedelta(0) for status in COMPLETE - {job.status}}
    assert not transitions.is_over(job, StaleJobs(now=over, keep=others))


@given(jobs(UNFINISHED))
def test_an_unfinished_job_is_never_over(job: JobRecord) -> None:
    """R73: a purge deletes complete jobs only."""
    assert not transitions.is_over(job, StaleJobs(now=T0 + 9_999 * SECOND, keep=dict.fromkeys(COMPLETE, timedelta(0))))


def test_a_retention_of_centuries_is_no_overflow() -> None:
    """It reaches back past the year 1, and nothing is older than that."""
    job = transitions.cancel(JobRecord(**REQUIRED), now=T0)[1]  # type: ignore[arg-type]
    keep = {JobStatus.CANCELLED: timedelta.max}
    assert not transitions.is_over(job, StaleJobs(now=T0, keep=keep))


REQUIRED = {
    "tracking_id": UUID(int=1),
    "queue_id": "mail",
    "command": Payload("hello"),
    "execute_after": T0,
    "expire_on": None,
    "created_at": T0,
}


def test_a_lease_that_would_end_after_the_last_year_is_refused() -> None:
    """R81: there is no such instant."""
    with pytest.raises(ValueError, match="after the year 9999"):
        transitions.lease_end(datetime.max.replace(tzinfo=UTC), SECOND)


TRANSITIONS: list[Callable[[JobRecord], JobRecord]] = [
    lambda job: transitions.claim(job, worker_id="w", now=T0, lease_for=SECOND),
    lambda job: transitions.renew(job, now=T0, lease_for=SECOND),
    lambda job: settle(job, Succeeded(RESULT)).job,
    lambda job: settle(job, Failed(ERROR)).job,
    lambda job: settle(job, Retry(T0, ERROR)).job,
    lambda job: settle(job, Release()).job,
    lambda job: transitions.cancel(job, now=T0)[1],
    lambda job: transitions.requeue(job, now=T0, expire_on=None)[1],
]


@given(jobs(RUNNING), st.sampled_from(TRANSITIONS))
def test_a_transition_makes_a_record_that_would_pass_its_own_checks(
    job: JobRecord, transition: Callable[[JobRecord], JobRecord]
) -> None:
    """It copies without checking, so what it writes has to be right; and the record before stays as it was."""
    before = asdict(job, recurse=False)
    after = transition(job)
    assert JobRecord(**asdict(after, recurse=False)) == after
    assert asdict(job, recurse=False) == before
