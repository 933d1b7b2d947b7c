"""The oracle: each invariant, held against a journal of a few lines."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from pannier import JobRecord, JobStatus
from pannier.records import JobError, Json, Payload
from pannier_testing.torture.oracle import CONDEMNED, Remains, Verdict, judge
from pannier_testing.torture.plan import FaultKind, Plan
from pannier_testing.torture.testimony import hear
from pannier_testing.wire import to_line

JOB = UUID(int=1, version=4)
OTHER = UUID(int=2, version=4)
NUMBER = 5
LEASE = 3.0
ANNA, BERT, RIG = 11, 12, 1

Line = tuple[str, int, float, dict[str, Json]]
"""What, who, when, and the rest."""


def stored(job: UUID = JOB, *, key: str | None = None, standing: UUID | None = None, call: int = 1) -> list[Line]:
    """Anna queues a job that is due at 0, and is answered."""
    wish: Json = [[str(job), key, 0.0, "Quick", {"number": NUMBER, "seconds": 0.0}]]
    return [
        ("store", ANNA, 0.0, {"call": call, "jobs": wish}),
        ("stored", ANNA, 0.0, {"call": call, "ids": [str(standing or job)]}),
    ]


def claimed(
    pid: int, fence: int, at: float, *, lapses: int = 0, lease: float = LEASE, now: float | None = None
) -> list[Line]:
    """Somebody claims the job."""
    now = at if now is None else now
    call = 1000 * fence + pid
    return [
        ("claim", pid, at, {"call": call, "limit": 1, "now": now, "lease": LEASE}),
        ("claimed", pid, at, {"call": call, "now": now, "jobs": [[str(JOB), fence, lapses, now + lease]]}),
    ]


def ran(pid: int, fence: int, start: float, end: float | None) -> list[Line]:
    """A handler runs."""
    about: dict[str, Json] = {"id": str(JOB), "fence": fence}
    return [("start", pid, start, about), *([] if end is None else [("end", pid, end, about)])]


def settled(pid: int, fence: int, at: float, outcome: str = "Succeeded") -> list[Line]:
    """Somebody settles the job, and is told that it was accepted."""
    leases: Json = [[str(JOB), fence, outcome]]
    call = 2000 * fence + pid
    return [
        ("settle", pid, at, {"call": call, "leases": leases}),
        ("settled", pid, at, {"call": call, "leases": leases}),
    ]


def killed(pid: int, at: float) -> list[Line]:
    """The rig kills somebody."""
    return [("fault", RIG, at, {"kind": "kill", "pids": [pid]}), ("dead", RIG, at, {"id": pid})]


def frozen(pid: int, at: float, until: float, meanwhile: Sequence[Line]) -> list[Line]:
    """The rig stops somebody for a while."""
    about: dict[str, Json] = {"kind": "freeze", "pids": [ANNA, BERT], "frozen": [pid]}
    return [("fault", RIG, at, about), *meanwhile, ("healed", RIG, until, {"kind": "freeze"})]


def done(fence: int = 1, **fields: Any) -> JobRecord:
    """Return the job as it stands in the end."""
    start = datetime.fromtimestamp(0, UTC)
    job = JobRecord(
        tracking_id=JOB,
        queue_id="Quick",
        command=Payload({"number": NUMBER, "seconds": 0.0}),
        execute_after=start,
        expire_on=None,
        created_at=start,
        fence=fence,
        status=JobStatus.SUCCEEDED,
        finished_at=start + timedelta(seconds=1),
        result=Payload(3 * NUMBER + 1),
    )
    return evolve(job, **fields)


def judged(
    lines: Sequence[Line], *jobs: JobRecord, counts: dict[JobStatus, int] | None = None, plan: Plan | None = None
) -> Verdict:
    """Judge a run that wrote *lines* and left *jobs* behind."""
    remains = Remains(jobs={job.tracking_id: job for job in jobs}, has_results=True, counts=counts)
    journal = [to_line({"what": what, "pid": pid, "at": at, **about}) for what, pid, at, about in lines]
    return judge(hear(journal), remains, plan or Plan(jobs=1, lease_seconds=LEASE))


def found(verdict: Verdict) -> set[str]:
    """Return which invariants were broken."""
    return {finding.invariant for finding in verdict.findings}


GOOD = [*stored(), *claimed(ANNA, 1, 1), *ran(ANNA, 1, 1.1, 1.2), *settled(ANNA, 1, 1.3)]
"""A job that is stored, claimed, run and settled."""

TAKEN_OVER = [*stored(), *claimed(ANNA, 1, 1), *ran(ANNA, 1, 1.1, None), *killed(ANNA, 2)]
AGAIN = [*claimed(BERT, 2, 4.5, lapses=1), *ran(BERT, 2, 4.6, 4.7), *settled(BERT, 2, 4.8)]
"""Its worker is killed, and another one takes it over when the lease has lapsed."""


def test_a_good_run_is_clean() -> None:
    """Nothing is found in a run in which nothing is wrong."""
    verdict = judged(GOOD, done(), counts={JobStatus.SUCCEEDED: 1})

    assert verdict.findings == ()
    assert verdict.counts["jobs_acknowledged"] == 1


def test_a_takeover_is_clean_and_counted() -> None:
    """A job that is run again after its worker was killed is a redelivery, and its delay is measured from the kill."""
    verdict = judged([*TAKEN_OVER, *AGAIN], done(2))

    assert verdict.findings == ()
    assert verdict.counts["redeliveries"] == 1
    assert verdict.counts["in_flight_at_faults"] == 1
    assert verdict.counts["longest_restart_seconds"] == pytest.approx(2.6)
    assert verdict.counts["restarted_late"] == 0


def test_a_late_restart_is_counted() -> None:
    """Later than the lease and a second."""
    late = [*claimed(BERT, 2, 7, lapses=1), *ran(BERT, 2, 7, 8), *settled(BERT, 2, 8)]

    assert judged([*TAKEN_OVER, *late], done(2)).counts["restarted_late"] == 1


def test_a_late_restart_in_a_standstill_is_told_apart() -> None:
    """Where the storage takes longer than a second for a call, the worker is not what is late."""
    asked: Line = ("renew", BERT, 5.5, {"call": 1, "leases": [], "until": 9.0})
    answered: Line = ("renewed", BERT, 6.9, {"call": 1, "leases": [], "lost": [], "until": 9.0})
    late = [*claimed(BERT, 2, 7, lapses=1), *ran(BERT, 2, 7, 8), *settled(BERT, 2, 8)]

    counts = judged([*TAKEN_OVER, asked, answered, *late], done(2)).counts

    assert (counts["restarted_late"], counts["late_in_a_standstill"]) == (1, 1)
    assert judged([*TAKEN_OVER, *late], done(2)).counts["late_in_a_standstill"] == 0


def test_a_process_whose_id_was_another_s_is_another() -> None:
    """In a long run ids are given again: the death of the second is not the end of what the first ran."""
    verdict = judged([*TAKEN_OVER, *AGAIN, *killed(ANNA, 600)], done(2))

    assert verdict.findings == ()
    assert verdict.counts["longest_restart_seconds"] == pytest.approx(2.6)


def test_an_acknowledged_job_that_is_gone_is_lost() -> None:
    """I1."""
    assert found(judged(GOOD)) == {"lost"}


@pytest.mark.parametrize(
    "status", [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.CANCELLED]
)
def test_a_job_that_does_not_end_as_it_should_is_lost(status: JobStatus) -> None:
    """I1: unfinished, failed for good, expired, or cancelled by nobody."""
    finished_at = datetime.fromtimestamp(1, UTC) if status.is_complete else None

    assert "lost" in found(judged(GOOD, done(status=status, result=None, finished_at=finished_at)))


def test_a_job_that_was_not_acknowledged_may_be_gone() -> None:
    """The process that stored it was killed before it was answered."""
    assert judged(stored()[:1]).findings == ()


def test_a_job_that_succeeded_without_a_handler_is_lost() -> None:
    """I1: what is marked as done was done."""
    lines = [*stored(), *claimed(ANNA, 1, 1), *ran(ANNA, 1, 1.1, None), *settled(ANNA, 1, 1.3)]

    assert found(judged(lines, done())) == {"lost"}


def test_a_cancelled_job_that_ran_on_is_lost() -> None:
    """R61: an acknowledged cancellation is for good."""
    cancel: list[Line] = [
        ("cancel", ANNA, 1, {"call": 7, "id": str(JOB)}),
        ("cancelled", ANNA, 1, {"call": 7, "id": str(JOB), "answer": "cancelled"}),
    ]

    assert found(judged([*GOOD, *cancel], done())) == {"lost"}
    assert judged([*stored(), *cancel], done(0, status=JobStatus.CANCELLED, result=None)).findings == ()


def test_what_nobody_stored_is_unexpected() -> None:
    """I2."""
    assert "unexpected" in found(judged(GOOD, done(), done(0, tracking_id=OTHER)))


def test_two_ends_under_two_fences_are_one_too_many() -> None:
    """I3."""
    assert "settled_twice" in found(judged([*GOOD, *claimed(BERT, 2, 5), *settled(BERT, 2, 6)], done(2)))


def test_a_repeat_under_the_same_fence_is_none() -> None:
    """R50: the answer to the first call was lost."""
    assert judged([*GOOD, *settled(ANNA, 1, 1.5)], done()).findings == ()


def test_a_write_under_a_stale_fence_must_not_be_accepted() -> None:
    """I3: whatever the outcome."""
    stale = [*claimed(BERT, 2, 5, lapses=1), *settled(ANNA, 1, 5.5, "Retry"), *ran(BERT, 2, 5, 6), *settled(BERT, 2, 6)]

    assert "stale_writes_accepted" in found(judged([*TAKEN_OVER, *stale], done(2)))


def test_a_job_may_not_be_given_out_twice_under_one_fence() -> None:
    """Two claimers of one fence could both settle."""
    assert "claimed_twice" in found(judged([*GOOD, *claimed(BERT, 1, 1)], done()))


def test_a_job_may_not_be_given_out_under_a_live_lease() -> None:
    """I4: not even of a worker that was killed."""
    early = [*claimed(BERT, 2, 3.5, lapses=1), *ran(BERT, 2, 4.6, 4.7), *settled(BERT, 2, 4.8)]

    assert found(judged([*TAKEN_OVER, *early], done(2))) == {"claimed_under_a_live_lease"}


def test_a_renewed_lease_is_live_until_its_new_end() -> None:
    """I4: the end that was acknowledged last counts."""
    leases: Json = [[str(JOB), 1]]
    renewed: list[Line] = [
        ("renew", ANNA, 1.5, {"call": 9, "leases": leases, "until": 5.0}),
        ("renewed", ANNA, 1.5, {"call": 9, "leases": leases, "lost": [], "until": 5.0}),
    ]
    lines = [*stored(), *claimed(ANNA, 1, 1), *renewed, *ran(ANNA, 1, 1.1, None), *killed(ANNA, 2), *AGAIN]

    assert found(judged(lines, done(2))) == {"claimed_under_a_live_lease"}


def test_a_claimer_whose_clock_is_wrong_does_not_make_a_lease_lapse() -> None:
    """E15: a lease lapses by the clock, not by the instant that a claimer names."""
    early = [*claimed(BERT, 2, 2.5, now=32.5, lapses=1), *ran(BERT, 2, 4.6, 4.7), *settled(BERT, 2, 4.8)]

    assert "claimed_under_a_live_lease" in found(judged([*TAKEN_OVER, *early], done(2)))


def test_a_released_job_may_be_given_out_at_once() -> None:
    """Whoever holds a lease may give it back."""
    released = [*stored(), *claimed(ANNA, 1, 1), *settled(ANNA, 1, 1.2, "Release")]
    again = [*claimed(BERT, 2, 1.3), *ran(BERT, 2, 1.4, 1.5), *settled(BERT, 2, 1.6)]

    assert judged([*released, *again], done(2)).findings == ()


OVERLAP = [*claimed(BERT, 2, 4.5, lapses=1), *ran(BERT, 2, 4.6, 4.7), *settled(BERT, 2, 4.8)]


def test_two_handlers_of_a_job_may_not_run_at_a_time() -> None:
    """I4: a worker ends a handler before its lease does (E6)."""
    lines = [*stored(), *claimed(ANNA, 1, 1), *ran(ANNA, 1, 1.1, 6), *OVERLAP]

    assert "handlers_overlapped" in found(judged(lines, done(2)))


def test_a_frozen_process_is_let_off() -> None:
    """It stood still while its lease lapsed, and can't be asked to have stopped its handler meanwhile."""
    begun = [*stored(), *claimed(ANNA, 1, 1), *ran(ANNA, 1, 1.1, None)]
    end: Line = ("end", ANNA, 6.1, {"id": str(JOB), "fence": 1})
    verdict = judged([*begun, *frozen(ANNA, 1.2, 6.0, OVERLAP), end], done(2))

    assert verdict.findings == ()
    assert verdict.counts["zombies_with_jobs"] == 1


def test_fences_count_claims() -> None:
    """I5: no fence without a claim, and none for two."""
    assert found(judged(GOOD, done(2))) == {"fences_out_of_bounds"}
    assert found(judged(GOOD, done(0))) == {"fences_out_of_bounds"}


def test_a_claim_without_an_answer_may_count() -> None:
    """I5: its process was killed, or the answer lost."""
    unanswered = claimed(BERT, 2, 0.5)[:1]

    assert judged([*stored(), *unanswered, *GOOD[2:]], done(2)).findings == ()


@pytest.mark.parametrize("result", [None, Payload(None), Payload(4)])
def test_a_succeeded_job_has_its_result(result: Payload | None) -> None:
    """I6: the one that its handler gave."""
    assert found(judged(GOOD, done(result=result))) == {"results_missing"}


def test_a_key_has_one_job() -> None:
    """I7: in the answers, and in the storage."""
    twice = [*stored(key="k"), *stored(OTHER, key="k", call=2)]
    other = done(0, tracking_id=OTHER, status=JobStatus.PENDING, finished_at=None, result=None, idempotency_key="k")

    assert "keys_broken" in found(judged(twice, done()))
    assert "keys_broken" in found(judged(GOOD, done(idempotency_key="k"), other))
    assert judged([*stored(key="k"), *stored(OTHER, key="k", standing=JOB, call=2), *GOOD[2:]], done()).findings == ()


def test_counts_are_those_of_the_list() -> None:
    """I8."""
    assert found(judged(GOOD, done(), counts={JobStatus.SUCCEEDED: 2})) == {"counts_wrong"}


def test_a_job_may_not_start_before_it_is_due() -> None:
    """E15."""
    early = [*stored(), *claimed(ANNA, 1, -1), *ran(ANNA, 1, -1, 0), *settled(ANNA, 1, 0)]

    assert found(judged(early, done())) == {"started_before_due"}


def test_a_lease_may_not_be_much_longer_than_was_asked_for() -> None:
    """E15: asked and a second."""
    long = [*stored(), *claimed(ANNA, 1, 1, lease=LEASE + 1.5), *ran(ANNA, 1, 1.1, 1.2), *settled(ANNA, 1, 1.3)]

    assert found(judged(long, done())) == {"leases_too_long"}


def test_a_redelivery_has_a_cause() -> None:
    """Without a fault that had the job in its hands there is none."""
    lines = [*stored(), *claimed(ANNA, 1, 1), *ran(ANNA, 1, 1.1, 1.2), *AGAIN]

    assert found(judged(lines, done(2))) == {"redeliveries_unexplained"}


def test_a_process_that_dies_by_itself_is_told() -> None:
    """But for one that leaves before a lease of its ends (E6), or finds no storage in an outage."""
    died: Line = ("died", RIG, 2, {"id": ANNA, "kind": "StorageUnavailableError", "message": "gone"})
    left: Line = ("died", RIG, 2, {"id": ANNA, "kind": "Ended", "message": "with 75, and told nothing"})
    outage = Plan(jobs=1, lease_seconds=LEASE, faults={FaultKind.SERVER: 1})

    assert found(judged([*GOOD, died], done())) == {"processes_died"}
    assert judged([*GOOD, died], done(), plan=outage).findings == ()
    assert judged([*GOOD, left], done()).findings == ()


def test_an_error_of_a_storage_that_is_well_is_told() -> None:
    """Locks are the storage's own affair; in an outage it may say that it is out of reach, and nothing else."""
    locked: Line = ("raised", ANNA, 1, {"call": 1, "verb": "claim_jobs", "kind": "StorageBusyError"})
    odd: Line = ("raised", ANNA, 1, {"call": 1, "verb": "claim_jobs", "kind": "!KeyError: 1"})
    outage = Plan(jobs=1, lease_seconds=LEASE, faults={FaultKind.SERVER: 1})

    assert found(judged([*GOOD, locked], done())) == {"errors_surfaced"}
    assert judged([*GOOD, locked], done(), plan=outage).findings == ()
    assert found(judged([*GOOD, odd], done(), plan=outage)) == {"errors_surfaced"}


def test_an_error_is_told_with_its_call_and_the_time_that_it_took() -> None:
    """Whether a call was given up or refused at once is what one wants to know first."""
    asked: Line = ("claim", ANNA, 1, {"call": 7, "limit": 1, "now": 1, "lease": LEASE})
    locked: Line = ("raised", ANNA, 2.5, {"call": 7, "verb": "claim_jobs", "kind": "StorageBusyError"})

    [finding] = judged([*GOOD, asked, locked], done()).findings

    assert finding.message == "1 calls of claim_jobs raised StorageBusyError, the slowest after 1.5 s"


def test_what_a_process_takes_of_the_processor_while_its_storage_is_down_is_counted() -> None:
    """Over all processes and outages that were timed."""
    down: list[Line] = [
        ("down", RIG, 2, {"seconds": 3.0, "busy": 0.1}),
        ("down", RIG, 2, {"seconds": 1.0, "busy": 0.02}),
    ]

    assert judged([*GOOD, *down], done()).counts["busy_percent_while_down"] == pytest.approx(3.0)
    assert judged(GOOD, done()).counts["busy_percent_while_down"] == 0


def test_a_stall_is_told() -> None:
    """Nothing moved for too long."""
    assert found(judged([*GOOD, ("stalled", RIG, 9, {"waited_for": "an end"})], done())) == {"stalls"}


def test_a_condemned_job_waits_for_somebody_who_requeues_it() -> None:
    """E14: where a run stalled before that, the job is kept with its reason, and not lost."""
    error = JobError(attempt=3, at=datetime.fromtimestamp(1, UTC), kind=CONDEMNED, message="its worker died")
    condemned = done(status=JobStatus.FAILED, result=None, errors=(error,))
    stalled: Line = ("stalled", RIG, 9, {"waited_for": "an end"})

    assert found(judged([*GOOD, stalled], condemned)) == {"stalls"}
    assert "lost" in found(judged(GOOD, condemned))


def test_a_line_that_a_kill_cut_short_is_left_out() -> None:
    """The next line continues it, and counts."""
    lines = [to_line({"what": what, "pid": pid, "at": at, **about}) for what, pid, at, about in GOOD]
    lines[2:3] = [lines[2][:20] + lines[2]]

    told = hear(lines)

    assert [taking.fence for taking in told.takings[JOB]] == [1]
