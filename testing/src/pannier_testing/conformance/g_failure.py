"""Section G: what becomes of a job whose attempt fails, or is given back."""

from contextlib import suppress
from datetime import timedelta
from typing import Final

from attrs import evolve

from pannier.claims import Unreadable
from pannier.errors import StorageRefusedError
from pannier.inspection import JobFilter, Requeue
from pannier.records import KEPT_ERRORS, MESSAGE_BYTES, TRACEBACK_BYTES, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Release, Settlement
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, error_at, failed, full_job, retry
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of

MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)


@rule("R53")
async def a_retried_job_waits_until_its_time(trial: Trial) -> None:
    """Retry(T) leads to PENDING, held by nobody, hidden until T, the rest of the record as it was."""
    storage = await trial.open()
    for again_at in (T0 + 5 * SECOND, T0 + 60 * SECOND, T0 + 60 * SECOND + trial.tick, T0 + 10 * MINUTE):
        job = await trial.started(storage, full_job(trial.tracking_id(), trial.queue()), now=T0 + 3 * SECOND)
        outcome = retry(again_at)

        await acts.must_settle(trial.check, storage, job, outcome, now=T0 + 4 * SECOND)

        waiting = evolve(job, status=JobStatus.PENDING, dequeue_after=again_at, worker_id=None, errors=(outcome.error,))
        trial.check.equal(await storage.get_job(job.tracking_id), waiting, "a retried job is pending until its time")
        early = await acts.claimed_ids(storage, job.queue_id, now=again_at - trial.tick)
        trial.check.equal(early, [], f"a job retried at {again_at} is hidden one tick before")
        again = await acts.claim(storage, job.queue_id, now=again_at)
        trial.check.equal(
            again,
            [evolve(waiting, status=JobStatus.RUNNING, attempt=2, fence=2, worker_id="worker-1",
                    dequeue_after=again_at + LEASE)],
            "a retried job is claimed at its time, its id, payload, key and errors kept",
        )  # fmt: skip


@rule("R53")
async def a_retry_forgets_the_lapses(trial: Trial) -> None:
    """A retry takes the lapses off the attempts and sets them to 0: what a dying worker cost is not counted."""
    storage = await trial.open()
    job = await trial.started(storage)
    for lapse in (1, 2):
        [job] = await acts.claim(storage, job.queue_id, now=T0 + lapse * LEASE)
    trial.check.equal((job.attempt, job.lapses), (3, 2), "a lease that lapses is counted")

    await acts.must_settle(trial.check, storage, job, retry(T0 + 5 * LEASE), now=T0 + 2 * LEASE)

    [again] = await acts.claim(storage, job.queue_id, now=T0 + 5 * LEASE)
    trial.check.equal(
        (again.attempt, again.lapses, again.fence), (2, 0, 4), "attempt, lapses and fence of the claim after a retry"
    )


@rule("R54")
async def the_last_errors_are_kept_in_order(trial: Trial) -> None:
    """Each Retry and Failed appends its error, complete; the last 10 are kept, oldest first, however alike they are."""
    storage = await trial.open()
    job = await trial.started(storage)
    errors = [  # some of one attempt, some of one text: only their times tell them apart
        error_at(T0 + n * SECOND + n * trial.tick, attempt=1 + n // 3, message=f"failure {n // 2}")
        for n in range(1, KEPT_ERRORS + 4)
    ]
    for count, error in enumerate(errors[:-1], start=1):
        await acts.must_settle(trial.check, storage, job, evolve(retry(T0 + count * SECOND), error=error))
        [job] = await acts.claim(storage, job.queue_id, now=T0 + count * SECOND)
        kept = tuple(errors[:count][-KEPT_ERRORS:])
        trial.check.equal(job.errors, kept, f"after {count} retries the last {KEPT_ERRORS} errors, oldest first")

    await acts.must_settle(trial.check, storage, job, evolve(failed(), error=errors[-1]))

    ended = await storage.get_job(job.tracking_id)
    trial.check.equal(
        None if ended is None else ended.errors,
        tuple(errors[-KEPT_ERRORS:]),
        "Failed appends its error to those of the retries",
    )


@rule("R54")
async def any_text_of_an_error_can_be_settled(trial: Trial) -> None:
    """Core cuts and escapes an error's texts, so that settling never fails for them; they come back as they are."""
    storage = await trial.open()
    texts = {
        "long": "x" * 100_000,
        "long in bytes": "ä" * 3000 + "\N{GRINNING FACE}" * 9000,
        "NUL": "before\0after",
        "a lone surrogate": "before\ud800after",
        "all at once": "\0\udfff" * 20_000,
        "nothing": "",
    }
    for name, text in texts.items():
        error = trial.values.job_error(attempt=1, at=T0, kind=text, message=text, traceback=text)
        for field, limit in (("kind", MESSAGE_BYTES), ("message", MESSAGE_BYTES), ("traceback", TRACEBACK_BYTES)):
            made = getattr(error, field)
            size = len(made.encode("utf-8", "surrogatepass"))
            trial.check.true(
                size <= limit and "\0" not in made and size == len(made.encode("utf-8", "ignore")),
                f"the {field} of an error ({name}) is cut and escaped by core",
                expected=f"at most {limit} bytes without NUL and lone surrogates",
                seen=f"{size} bytes: {made[:40]!r}...",
            )
        job = await trial.started(storage)
        outcome = evolve(failed(), error=error)
        await trial.check.answers(
            acts.settle(storage, job, outcome), f"settling never fails for the text of its error ({name})"
        )
        stored = await storage.get_job(job.tracking_id)
        trial.check.equal(
            None if stored is None else [(e.kind, e.message, e.traceback) for e in stored.errors],
            [(error.kind, error.message, error.traceback)],
            f"an error's texts ({name}) come back as they are",
        )


@rule("R55")
async def a_failed_job_stays_to_be_looked_at(trial: Trial) -> None:
    """Failed leads to FAILED with finished_at set, the payload intact, and no claim takes the job any more."""
    storage = await trial.open()
    job = await trial.started(storage, full_job(trial.tracking_id(), trial.queue()), now=T0 + 3 * SECOND)
    outcome, now = failed(T0 + 5 * SECOND), T0 + 7 * SECOND

    await acts.must_settle(trial.check, storage, job, outcome, now=now)

    ended = evolve(job, status=JobStatus.FAILED, finished_at=now, errors=(outcome.error,))
    trial.check.equal(await storage.get_job(job.tracking_id), ended, "the record of a failed job")
    for later in (now, T0 + 3 * SECOND + LEASE, T0 + MINUTE, T0 + 50 * MINUTE):
        taken = await acts.claimed_ids(storage, job.queue_id, now=later)
        trial.check.equal(taken, [], f"a failed job is not claimable at {later}")
    trial.check.equal(await storage.get_job(job.tracking_id), ended, "the record of a failed job after claims")


@rule("R55", needs=frozenset({Need.INSPECT}))
async def a_failed_job_is_found_and_can_be_requeued(trial: Trial) -> None:
    """A failed job is listed among the failed ones, and is claimable again once it is requeued."""
    storage = await trial.open()
    inspector = inspector_of(storage)
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, failed())

    page = await inspector.find_jobs(JobFilter(statuses=frozenset({JobStatus.FAILED})))
    trial.check.equal([found.tracking_id for found in page.jobs], [job.tracking_id], "a failed job is listed as FAILED")
    answer = await inspector.requeue_job(job.tracking_id, now=T0 + MINUTE, expire_on=None)
    trial.check.equal(answer, Requeue.REQUEUED, "a failed job can be requeued")
    again = await acts.claim(storage, job.queue_id, now=T0 + MINUTE)
    trial.check.equal([taken.command for taken in again], [job.command], "a requeued job is claimed with its payload")


@rule("R56", needs=frozenset({Need.DAMAGE}))
async def a_record_that_cannot_be_read_stops_no_other(trial: Trial) -> None:
    """A damaged record comes back as unreadable, leased like the others, which come back as ever; it can be settled."""
    storage = await trial.open()
    queue = trial.queue()
    jobs = trial.jobs(5, queue)
    await storage.store_jobs(jobs)
    bad = sorted(jobs, key=lambda job: job.tracking_id)[2]
    await trial.aided(trial.subject.damage, trial.url, str(bad.tracking_id))
    found, idle = await _shown(storage, bad), trial.queue()

    for turn, now in ((1, T0), (2, T0 + LEASE)):
        claimed = await trial.check.answers(
            storage.claim_jobs(claim_of(idle, queue, limit=10, now=now)),
            "an unreadable record is no error of the claim",
        )
        trial.check.counts(
            (job.tracking_id for job in claimed.jobs),
            (job.tracking_id for job in jobs if job is not bad),
            "an unreadable record stops none of the others",
        )
        trial.check.equal(
            [(each.lease, each.queue_id, bool(each.reason)) for each in claimed.unreadable],
            [(Lease(bad.tracking_id, turn), queue, True)],
            "an unreadable record is named with its lease, queue and a reason",
        )
        hidden = await storage.claim_jobs(claim_of(queue, limit=10, now=now + LEASE - trial.tick))
        trial.check.equal(hidden.unreadable, (), "an unreadable record is leased like the others")
        with suppress(StorageRefusedError):
            shown = await storage.get_job(bad.tracking_id)
            trial.check.equal(
                None if shown is None else shown.tracking_id,
                bad.tracking_id,
                "get_job shows what is left of an unreadable record or raises StorageRefusedError: it is there",
            )
    await _settle_unreadable(trial, claimed.unreadable[0])
    trial.check.equal(await _shown(storage, bad), found, "claimed and settled, an unreadable record's bytes stay")


async def _shown(storage: JobStorageProvider, job: JobRecord) -> Payload | None:
    """Return what is shown of the command of *job*: None where the storage refuses to."""
    with suppress(StorageRefusedError):
        record = await storage.get_job(job.tracking_id)
        return None if record is None else record.command
    return None


async def _settle_unreadable(trial: Trial, unreadable: Unreadable) -> None:
    storage = await trial.open()
    refused = await trial.check.answers(
        storage.settle_jobs([Settlement(unreadable.lease, failed())], now=T0 + LEASE),
        "an unreadable record can be settled as Failed",
    )
    trial.check.equal(refused, frozenset(), "an unreadable record can be settled as Failed")
    claimed = await storage.claim_jobs(claim_of(unreadable.queue_id, limit=10, now=T0 + DAY))
    trial.check.equal(claimed.unreadable, (), "once settled as Failed it is claimed no more")
    if trial.offers(Need.INSPECT):
        counts = await inspector_of(storage).count_jobs(JobFilter(statuses=frozenset({JobStatus.FAILED})))
        trial.check.equal(sum(counts.values()), 1, "its stored bytes stay, under FAILED")


@rule("R57")
async def a_claim_stores_all_that_it_returns(trial: Trial) -> None:
    """After SIGKILL of the claimer the record reads back as the claim returned it; the next claim counts the lapse."""
    queue = trial.queue()
    job = full_job(trial.tracking_id(), queue)
    now = T0 + 3 * SECOND
    child = await trial.open_child()
    await child.call("store_jobs", jobs=[job])
    await child.call("claim_jobs", claim=claim_of(queue, now=now, worker="the first"))
    claimed = await child.call("claim_jobs", claim=claim_of(queue, now=now + LEASE, worker="the killed"))
    await child.kill()
    trial.check.equal(
        [(taken.attempt, taken.fence, taken.lapses) for taken in claimed.jobs], [(2, 2, 1)], "a lapse is counted"
    )

    storage = await trial.open()
    trial.check.equal(
        await storage.get_job(job.tracking_id),
        claimed.jobs[0],
        "what a claim returned survives SIGKILL of the claimer",
    )
    hidden = await acts.claimed_ids(storage, queue, now=now + 2 * LEASE - trial.tick)
    trial.check.equal(hidden, [], "the lease survives SIGKILL of the claimer: hidden to its last tick")
    again = await acts.claim(storage, queue, now=now + 2 * LEASE)
    trial.check.equal(
        [(taken.attempt, taken.fence, taken.lapses) for taken in again],
        [(3, 3, 2)],
        "the next claim counts the attempt, the fence and the lapse of the killed claimer",
    )


@rule("R58")
async def a_retry_past_the_expiry_fails_at_once(trial: Trial) -> None:
    """Retry(at) with at >= expire_on is applied as Failed with the same error; before that it is a retry."""
    storage = await trial.open()
    ends, now = T0 + MINUTE, T0 + 10 * SECOND
    for again_at in (ends, ends + trial.tick, ends + DAY):
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=ends))
        outcome = retry(again_at, at=T0 + SECOND)
        await acts.must_settle(trial.check, storage, job, outcome, now=now)
        expected = evolve(job, status=JobStatus.FAILED, finished_at=now, errors=(outcome.error,))
        trial.check.equal(
            await storage.get_job(job.tracking_id),
            expected,
            f"a job that expires on {ends} and is retried at {again_at} has failed with the retry's error",
        )
        await acts.must_settle(trial.check, storage, job, outcome, now=now + SECOND)
        trial.check.equal(await storage.get_job(job.tracking_id), expected, "repeating that retry changes nothing")


@rule("R58")
async def a_retry_past_the_expiry_ends_a_row_of_lapses(trial: Trial) -> None:
    """What fails since its retry would come too late is settled, so that its lapses are 0, and its attempts stay."""
    storage = await trial.open()
    first = await trial.started(storage, trial.job(trial.queue(), expire_on=T0 + DAY))
    (job,) = await acts.claim(storage, first.queue_id, now=T0 + LEASE)
    trial.check.equal(job.lapses, 1, "a lapsed lease that was taken over is a lapse")
    outcome, now = retry(T0 + DAY), T0 + LEASE + SECOND
    await acts.must_settle(trial.check, storage, job, outcome, now=now)
    ended = evolve(job, status=JobStatus.FAILED, lapses=0, finished_at=now, errors=(outcome.error,))
    trial.check.equal(await trial.read(storage, job), [ended], "a job with a lapse, retried at its expiry")


@rule("R58")
async def a_retry_before_the_expiry_is_a_retry(trial: Trial) -> None:
    """Retry(at) with at < expire_on waits, however close: the last tick, and also when the expiry has passed."""
    storage = await trial.open()
    ends = T0 + MINUTE
    for again_at, now in ((ends - trial.tick, T0), (ends - trial.tick, ends + SECOND), (T0, T0)):
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=ends))
        await acts.must_settle(trial.check, storage, job, retry(again_at), now=now)
        stored = await storage.get_job(job.tracking_id)
        trial.check.equal(
            None if stored is None else (stored.status, stored.dequeue_after, stored.finished_at),
            (JobStatus.PENDING, again_at, None),
            f"a job that expires on {ends} and is retried at {again_at}, settled at {now}, waits",
        )


@rule("R59")
async def a_released_job_is_as_before_its_claim(trial: Trial) -> None:
    """Release leads to PENDING, due as of execute_after, the attempt given back once, the fence kept."""
    storage = await trial.open()
    job = await trial.started(storage, full_job(trial.tracking_id(), trial.queue()), now=T0 + 10 * SECOND)

    for now in (T0 + 11 * SECOND, T0 + 12 * SECOND):  # the second is a repeat
        await acts.must_settle(trial.check, storage, job, Release(), now=now)
        given_back = evolve(job, status=JobStatus.PENDING, attempt=0, worker_id=None, dequeue_after=job.execute_after)
        trial.check.equal(
            await storage.get_job(job.tracking_id), given_back, "the record of a job that was claimed and released"
        )
    again = await acts.claim(storage, job.queue_id, now=T0 + 11 * SECOND)
    trial.check.equal(
        [(taken.attempt, taken.fence, taken.lapses) for taken in again],
        [(1, 2, 0)],
        "a released job is claimable at once: attempt, fence and lapses",
    )


@rule("R59")
async def a_released_job_keeps_its_lapses_and_errors(trial: Trial) -> None:
    """Release gives back one attempt, not those that lapsed before, and forgets no error and no retry."""
    storage = await trial.open()
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, retry(T0 + MINUTE))
    [job] = await acts.claim(storage, job.queue_id, now=T0 + MINUTE)
    await acts.claim(storage, job.queue_id, now=T0 + MINUTE + LEASE)
    now = T0 + MINUTE + 2 * LEASE
    [lapsed] = await acts.claim(storage, job.queue_id, now=now)
    trial.check.equal((lapsed.attempt, lapsed.lapses), (4, 2), "each lease that lapses is counted")

    given_back = evolve(lapsed, status=JobStatus.PENDING, attempt=3, worker_id=None, dequeue_after=job.execute_after)
    for times in ("once", "twice"):
        await acts.must_settle(trial.check, storage, lapsed, Release(), now=now)
        trial.check.equal(
            await storage.get_job(job.tracking_id),
            given_back,
            f"the record of a job that was retried, lapsed and released {times}",
        )


@rule("R59")
async def a_released_job_keeps_its_place(trial: Trial) -> None:
    """A released job is the next one again, not behind those that were stored after it."""
    storage = await trial.open()
    queue = trial.queue()
    jobs = [trial.job(queue, execute_after=T0 + n * SECOND) for n in range(4)]
    await storage.store_jobs(jobs)
    now = T0 + MINUTE
    for _ in range(2):
        [first] = await acts.claim(storage, queue, now=now, limit=1)
        trial.check.equal(first.tracking_id, jobs[0].tracking_id, "the job with the earliest time is claimed first")
        await acts.must_settle(trial.check, storage, first, Release(), now=now)
    taken = await acts.claimed_ids(storage, queue, now=now, limit=1)
    trial.check.equal(taken, [jobs[0].tracking_id], "a released job keeps its place before the backlog")
