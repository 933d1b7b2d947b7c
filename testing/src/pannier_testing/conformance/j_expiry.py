"""Section J: jobs that expire, that are purged, and that are requeued."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve

from pannier.inspection import JobFilter, Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import COMPLETE, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, failed, full_job, retry
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of, results_of

DAY: Final = timedelta(days=1)
ENDED: Final = tuple(sorted(COMPLETE))


@rule("R72")
async def a_job_expires_at_its_expiry(trial: Trial) -> None:
    """Purge marks a job EXPIRED, with finished_at = now, from its expire_on on, and not one tick before."""
    storage = await trial.open()
    for ends in (T0 + trial.tick, T0 + SECOND, T0 + SECOND + 7 * trial.tick, T0 + DAY):
        for now in (ends, ends + trial.tick, ends + DAY):
            job = trial.job(trial.queue(), expire_on=ends)
            await storage.store_jobs([job])
            early = await _purge_only(storage, job, {}, ends - trial.tick)
            trial.check.equal(early, Purged(0, 0), f"a purge one tick before the expiry {ends}")
            trial.check.equal(await trial.read(storage, job), [job], f"a job one tick before its expiry {ends}")
            seen = await _purge_only(storage, job, {}, now)
            trial.check.equal(seen, Purged(1, 0), f"a purge at {now} of a job that expires at {ends}")
            expired = evolve(job, status=JobStatus.EXPIRED, finished_at=now)
            trial.check.equal(await trial.read(storage, job), [expired], f"a job marked at {now}, expiring at {ends}")


@rule("R72")
async def a_finished_job_is_deleted_when_its_retention_is_over(trial: Trial) -> None:
    """Purge deletes from finished_at + keep[status] on, not one tick before, whatever created_at and execute_after."""
    storage = await trial.open()
    for created_at in (T0 - 1000 * DAY, T0 + 1000 * DAY):
        for status in ENDED:
            for keep in (timedelta(0), trial.tick, MINUTE, MINUTE + trial.tick, 400 * DAY):
                queue = trial.queue()
                job = await trial.brought_to(storage, status, trial.job(queue, created_at=created_at))
                assert job.finished_at is not None
                over, which = job.finished_at + keep, f"a job that was {status} at {job.finished_at}, kept for {keep}"
                if keep:
                    early = await _purge_only(storage, job, {status: keep}, over - trial.tick)
                    trial.check.equal(early, Purged(0, 0), f"{which}, one tick before that is over")
                    trial.check.equal(await trial.read(storage, job), [job], f"{which}, one tick before that is over")
                seen = await _purge_only(storage, job, {status: keep}, over)
                trial.check.equal(seen, Purged(0, 1), f"{which}, at {over}")
                trial.check.equal(await storage.get_job(job.tracking_id), None, f"{which}, after its purge")


async def _purge_only(
    storage: JobStorageProvider, job: JobRecord, keep: dict[JobStatus, timedelta], now: datetime
) -> Purged:
    stale = StaleJobs(now=now, keep=keep, queue_ids=frozenset({job.queue_id}))
    return await storage.purge_stale_jobs(stale)


@rule("R72")
async def a_status_without_retention_is_kept_for_ever(trial: Trial) -> None:
    """What has a status that is absent from keep is never deleted, however late; so is what is kept for millennia."""
    storage = await trial.open()
    late = T0.replace(year=9990)
    jobs = {status: await trial.brought_to(storage, status) for status in ENDED}
    for absent in ENDED:
        mine = jobs[absent]
        for keep in (
            dict.fromkeys((status for status in ENDED if status is not absent), timedelta(0)),
            {absent: timedelta.max},
            {absent: timedelta(days=365 * 8000)},
            {},
        ):
            seen = await trial.check.answers(
                _purge_only(storage, mine, keep, late), f"purging with keep={keep} is no error"
            )
            trial.check.equal(seen, Purged(0, 0), f"a job that is {absent} stays for ever with keep={keep}")
            trial.check.equal(await trial.read(storage, mine), [mine], f"a job that is {absent} stays with keep={keep}")


@rule("R72")
async def a_purge_is_a_bounded_step(trial: Trial) -> None:
    """One call marks at most limit jobs and deletes at most limit, and does not delete what it has just marked."""
    storage = await trial.open()
    queue = trial.queue()
    ends = T0 + SECOND
    expiring = [trial.job(queue, expire_on=ends) for _ in range(7)]
    over = [trial.job(queue, key=f"over {n}") for n in range(7)]
    await storage.store_jobs(over + expiring)
    for job in over:
        await acts.cancelled(storage, job)
    marked = deleted = 0
    while marked + deleted < 21:
        seen = await acts.purge(storage, *ENDED, now=ends, limit=3)
        trial.check.true(
            seen.expired <= 3 and seen.deleted <= 3 and seen != Purged(0, 0),
            "a purge with limit=3, while there is something to do",
            expected="at most 3 expired, at most 3 deleted, not nothing",
            seen=seen,
        )
        marked, deleted = marked + seen.expired, deleted + seen.deleted
        trial.check.true(
            deleted <= 7 + marked - seen.expired,
            "a purge does not delete what it has just marked",
            expected=f"at most {7 + marked - seen.expired} deleted so far",
            seen=f"{deleted} deleted, {marked} marked",
        )
    trial.check.equal((marked, deleted), (7, 14), "all that expired was marked once, and all was deleted")


@rule("R72")
async def the_limit_of_a_purge_is_that_of_the_call(trial: Trial) -> None:
    """One call marks and deletes at most limit jobs of all queues and statuses together, and counts what it did."""
    for is_filtered in (False, True):
        storage = await trial.open()
        queues = [trial.queue() for _ in range(3)]
        over = [trial.job(queue) for queue in queues for _ in range(2)]
        expiring = [trial.job(queue, expire_on=T0 + MINUTE) for queue in queues for _ in range(2)]
        await storage.store_jobs(over + expiring)
        for job in over[::2]:
            await acts.cancelled(storage, job)
        for job in await acts.claim(storage, *queues, limit=3):
            await acts.must_settle(trial.check, storage, job, failed())
        asked = frozenset(queues) if is_filtered else None
        seen = await acts.purge(storage, *ENDED, now=T0 + MINUTE, limit=2, queue_ids=asked)
        left = [await storage.get_job(job.tracking_id) for job in over + expiring]
        after = Counter(job.status for job in left if job is not None)
        trial.check.true(
            seen.expired <= 2 and seen.deleted <= 2 and seen != Purged(0, 0),
            "a purge with limit=2 of three queues, each with more to do",
            expected="at most 2 expired, at most 2 deleted, not nothing",
            seen=seen,
        )
        did = Purged(after[JobStatus.EXPIRED], left.count(None))
        trial.check.equal(did, seen, "how many jobs that purge has marked and deleted, and what it says")


@rule("R72")
async def what_a_purge_marks_it_does_not_delete(trial: Trial) -> None:
    """With a retention of nothing for EXPIRED, the call that marks a job leaves it; the next one deletes it."""
    storage = await trial.open()
    job = trial.job(trial.queue(), expire_on=T0 + SECOND)
    await storage.store_jobs([job])
    for limit in (1, 1000):
        first = await acts.purge(storage, *ENDED, now=T0 + SECOND, limit=limit)
        trial.check.equal(first, Purged(1, 0), "the purge that marks a job EXPIRED")
        expired = evolve(job, status=JobStatus.EXPIRED, finished_at=T0 + SECOND)
        trial.check.equal(await trial.read(storage, job), [expired], "a job that was just marked EXPIRED")
        second = await acts.purge(storage, *ENDED, now=T0 + SECOND, limit=limit)
        trial.check.equal(second, Purged(0, 1), "the purge after the one that marked a job")
        job = trial.job(trial.queue(), expire_on=T0 + SECOND)
        await storage.store_jobs([job])


@rule("R73")
async def a_purge_spares_what_is_not_over(trial: Trial) -> None:
    """Nothing pending, scheduled, retried or leased is touched by a purge that keeps nothing, however late it is."""
    storage = await trial.open()
    pending = trial.job(trial.queue())
    scheduled = trial.job(trial.queue(), execute_after=T0 + 1000 * DAY)
    await storage.store_jobs([pending, scheduled])
    retried = await trial.started(storage)
    await acts.must_settle(trial.check, storage, retried, retry(T0 + DAY))
    jobs = [pending, scheduled, *await trial.read(storage, retried), await trial.started(storage)]
    for now in (T0, T0 + MINUTE, T0 + DAY, T0 + 10_000 * DAY):
        seen = await acts.purge(storage, *ENDED, now=now)
        trial.check.equal(seen, Purged(0, 0), f"a purge at {now} of jobs that are not over")
        trial.check.equal(await trial.read(storage, *jobs), jobs, f"jobs that are not over, after a purge at {now}")


@rule("R73")
async def a_purge_spares_a_live_lease(trial: Trial) -> None:
    """A job that expires while it runs is left to its holder until its lease ends, to the tick, and then marked."""
    storage = await trial.open()
    ends = T0 + SECOND
    job = await trial.started(storage, trial.job(trial.queue(), expire_on=ends))
    for now in (ends, ends + SECOND, job.dequeue_after - trial.tick):
        seen = await acts.purge(storage, *ENDED, now=now)
        trial.check.equal(seen, Purged(0, 0), f"a purge at {now} of a job leased until {job.dequeue_after}")
        trial.check.equal(await trial.read(storage, job), [job], "a job that expired under a live lease")
    renewed_at = job.dequeue_after - trial.tick
    await acts.renew(storage, job, now=renewed_at)
    spared = await acts.purge(storage, *ENDED, now=job.dequeue_after)
    trial.check.equal(spared, Purged(0, 0), "a purge of a job that expired, its lease renewed")
    seen = await acts.purge(storage, now=renewed_at + LEASE)
    trial.check.equal(seen, Purged(1, 0), "a purge at the end of the lease of a job that has expired")
    (record,) = await trial.read(storage, job)
    trial.check.equal(
        (record.status, record.finished_at), (JobStatus.EXPIRED, renewed_at + LEASE), "a job whose lease has ended"
    )


@rule("R73")
async def a_purge_looks_again_where_a_renewal_has_moved_the_end(trial: Trial) -> None:
    """A purge meets an expired job under a lease that a renewal then shortens: it is marked at the lease's new end."""
    storage = await trial.open()
    for sooner in (trial.tick, SECOND, LEASE - SECOND - trial.tick):
        ends = T0 + SECOND
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=ends))
        spared = await acts.purge(storage, now=ends)
        trial.check.equal(spared, Purged(0, 0), f"a purge of a job that has expired, leased until {job.dequeue_after}")
        await acts.renew(storage, job, now=ends, lease_for=sooner)
        early = await acts.purge(storage, now=ends + sooner - trial.tick)
        trial.check.equal(early, Purged(0, 0), f"a purge one tick before {ends + sooner}, the new end of its lease")
        seen = await acts.purge(storage, now=ends + sooner)
        trial.check.equal(
            seen, Purged(1, 0), f"a purge at {ends + sooner}, where a renewal has moved the end of its lease"
        )
        expired = evolve(job, status=JobStatus.EXPIRED, dequeue_after=ends + sooner, finished_at=ends + sooner)
        trial.check.equal(await trial.read(storage, job), [expired], "a job whose lease was shortened, at its end")


@rule("R74")
async def what_a_purge_counts_is_what_it_did(trial: Trial) -> None:
    """The counts are exact, and calls reach (0, 0), which means that nothing is left to do."""
    storage = await trial.open()
    queue = trial.queue()
    ends = T0 + SECOND
    keep = dict.fromkeys((JobStatus.CANCELLED, JobStatus.SUCCEEDED), timedelta(0))
    for limit in (1, 4, 8, 1000):
        expiring = [trial.job(queue, expire_on=ends) for _ in range(8)]
        over = [await trial.started(storage) for _ in range(3)]
        for job in over:
            await acts.must_settle(trial.check, storage, job, Succeeded(Payload({"a": ["result"]})))
        cancelled = [trial.job(queue, key=f"key {n}", metadata={"tenant": "acme"}) for n in range(8)]
        kept = [trial.job(queue) for _ in range(5)]
        await storage.store_jobs([*expiring, *cancelled, *kept])
        for job in cancelled:
            await acts.cancelled(storage, job)
        over += cancelled
        total = await _purge_to_the_end(trial, storage, StaleJobs(now=ends, keep=keep, limit=limit), calls=20)
        trial.check.equal(total, Purged(8, 11), f"what all calls with limit={limit} have counted, until (0, 0)")
    gone = [await storage.get_job(job.tracking_id) for job in over]
    trial.check.equal(gone, [None] * 11, "all that was over is gone at (0, 0)")
    statuses = {job.status for job in await trial.read(storage, *expiring)}
    trial.check.equal(statuses, {JobStatus.EXPIRED}, "all that has expired is marked at (0, 0)")
    trial.check.equal(await trial.read(storage, *kept), kept, "what is not over")


async def _purge_to_the_end(trial: Trial, storage: JobStorageProvider, stale: StaleJobs, *, calls: int) -> Purged:
    """Purge until there is nothing to do; return what all calls counted."""
    expired = deleted = 0
    for _ in range(calls):
        seen = await storage.purge_stale_jobs(stale)
        if seen == Purged(0, 0):
            break
        expired, deleted = expired + seen.expired, deleted + seen.deleted
    else:
        so_far = f"{expired} marked and {deleted} deleted so far"
        trial.check.fails("repeated purges reach (0, 0)", expected=f"an end within {calls} calls", seen=so_far)
    return Purged(expired, deleted)


@rule("R74")
async def what_stays_does_not_stall_the_rest(trial: Trial) -> None:
    """Jobs that must stay, and come first by every order, keep no small step from what is behind them."""
    storage = await trial.open()
    for blocking in ("another status", "a longer retention", "another queue", "a live lease"):
        queue, other = trial.queue(), trial.queue()
        front = trial.jobs(12, other if blocking == "another queue" else queue, expire_on=T0 + SECOND)
        await storage.store_jobs(front)
        if blocking == "a live lease":
            await acts.claim(storage, queue)
        else:
            for job in front:
                await acts.cancelled(storage, job)
        back = trial.jobs(5, queue, expire_on=T0 + MINUTE)
        await storage.store_jobs(back)
        for job in await acts.claim(storage, queue, now=T0 + 2 * SECOND, limit=4):
            await acts.must_settle(trial.check, storage, job, failed(), now=T0 + 2 * SECOND)
        keep = {JobStatus.FAILED: timedelta(0), JobStatus.EXPIRED: DAY}
        if blocking == "a longer retention":
            keep[JobStatus.CANCELLED] = DAY
        if blocking == "another queue":
            keep[JobStatus.CANCELLED] = timedelta(0)
        if blocking == "a live lease":
            await _renew_all(storage, front, now=T0 + 2 * SECOND)
        total = await _purge_to_the_end(
            trial, storage, StaleJobs(now=T0 + MINUTE, keep=keep, queue_ids=frozenset({queue}), limit=2), calls=8
        )
        trial.check.equal(total, Purged(1, 4), f"what is purged behind 12 jobs that stay for {blocking}")


async def _renew_all(storage: JobStorageProvider, jobs: list[JobRecord], *, now: datetime) -> None:
    leases = [Lease(job.tracking_id, 1) for job in jobs]
    await storage.renew_leases(leases, now=now, lease_for=DAY)


@rule("R75")
async def a_purge_and_a_claim_agree(trial: Trial) -> None:
    """A job is claimed just before its expiry while a purge marks what has expired: one of the two has it."""
    storage, second = await trial.open(), await trial.open()
    ends = T0 + SECOND
    for schedule in trial.schedules(20):
        job = trial.job(trial.queue(), expire_on=ends)
        await storage.store_jobs([job])
        taken, purged = await trial.check.answers(
            schedule.raced(
                acts.claim(storage, job.queue_id, now=ends - trial.tick),
                _purge_only(schedule.rng.choice([storage, second]), job, {}, ends),
            ),
            "claiming and purging at the same time is no error",
        )
        (record,) = await trial.read(storage, job)
        expired = evolve(job, status=JobStatus.EXPIRED, finished_at=ends)
        await _check_either(trial, (record, len(taken), purged), (taken or [job])[0], expired)
        for claimed in taken:
            await acts.must_settle(trial.check, storage, claimed, Succeeded(), now=ends)


@rule("R75")
async def a_purge_and_a_renewal_agree(trial: Trial) -> None:
    """A lease that has lapsed is renewed while a purge marks what has expired: one of the two has the job."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=T0 + SECOND))
        now = T0 + LEASE
        stands, purged = await trial.check.answers(
            schedule.raced(
                acts.renew(storage, job, now=now), _purge_only(schedule.rng.choice([storage, second]), job, {}, now)
            ),
            "renewing and purging at the same time is no error",
        )
        (record,) = await trial.read(storage, job)
        expired = evolve(job, status=JobStatus.EXPIRED, finished_at=now)
        await _check_either(trial, (record, int(stands), purged), evolve(job, dequeue_after=now + LEASE), expired)


@rule("R75")
async def a_purge_and_a_settlement_agree(trial: Trial) -> None:
    """A job whose lease has lapsed is settled while a purge marks what has expired: one of the two has it."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=T0 + SECOND))
        now = T0 + LEASE
        accepted, purged = await trial.check.answers(
            schedule.raced(
                acts.settle(storage, job, failed(), now=now),
                _purge_only(schedule.rng.choice([storage, second]), job, {}, now),
            ),
            "settling and purging at the same time is no error",
        )
        (record,) = await trial.read(storage, job)
        ended = evolve(job, status=JobStatus.FAILED, finished_at=now, errors=(failed().error,))
        expired = evolve(job, status=JobStatus.EXPIRED, finished_at=now)
        await _check_either(trial, (record, int(accepted), purged), ended, expired)


async def _check_either(trial: Trial, seen: tuple[JobRecord, int, Purged], held: JobRecord, expired: JobRecord) -> None:
    """Check that what was seen (record, whether the holder had it, what the purge counted) is one of two histories."""
    record, is_held, purged = seen
    if is_held:
        trial.check.equal((purged, record), (Purged(0, 0), held), "a job that its holder has is not purged")
    else:
        trial.check.equal((purged, record), (Purged(1, 0), expired), "a job that its holder has not is purged")


@rule("R75")
async def a_purge_takes_no_running_job(trial: Trial) -> None:
    """While jobs are settled a purge deletes what has succeeded: each settlement counts, no running job is lost."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        queue = trial.queue()
        await storage.store_jobs(trial.jobs(4, queue))
        done, running, *rest = await acts.claim(storage, queue)
        await acts.must_settle(trial.check, storage, rest[0], Succeeded())
        accepted, purged = await trial.check.answers(
            schedule.raced(
                acts.settle(storage, done, Succeeded()),
                _purge_only(schedule.rng.choice([storage, second]), done, {JobStatus.SUCCEEDED: timedelta(0)}, T0),
            ),
            "settling and purging at the same time is no error",
        )
        trial.check.true(accepted, "a live lease can be settled during a purge", expected="accepted", seen="refused")
        left = await storage.get_job(done.tracking_id)
        trial.check.equal(
            (None if left is None else left.status, purged),
            (None, Purged(0, 2)) if left is None else (JobStatus.SUCCEEDED, Purged(0, 1)),
            "what a purge counts beside a settlement is what is gone",
        )
        trial.check.equal(
            await trial.read(storage, running, rest[1]), [running, rest[1]], "running jobs beside a purge"
        )


@rule("R76")
async def nothing_is_left_of_purged_jobs(trial: Trial) -> None:
    """After all is purged nothing is found, listed or counted, and the keys are free for new jobs."""
    storage = await trial.open()
    jobs: list[JobRecord] = []
    for number, status in enumerate(ENDED):
        fresh = trial.job(trial.queue(), key=f"key {number}", metadata={"tenant": "acme"})
        jobs.append(await trial.brought_to(storage, status, fresh))
    later = T0 + DAY
    await acts.purge(storage, *ENDED, now=later)

    for job in jobs:
        trial.check.equal(await storage.get_job(job.tracking_id), None, f"a purged job that was {job.status}")
        if trial.offers(Need.RESULTS):
            result = await results_of(storage).get_job_result(job.tracking_id)
            trial.check.equal(result, None, f"the result of a purged job that was {job.status}")
        refused = await storage.renew_leases([Lease(job.tracking_id, 1)], now=later, lease_for=LEASE)
        trial.check.equal(len(refused), 1, "a lease of a purged job is lost")
        again = trial.job(job.queue_id, key=job.idempotency_key, execute_after=later)
        stored = await storage.store_jobs([again])
        trial.check.equal(stored, [again.tracking_id], f"the key of a purged job that was {job.status} is free")
        same = evolve(trial.job(job.queue_id, execute_after=later), tracking_id=job.tracking_id)
        stored = await storage.store_jobs([same])
        trial.check.equal(
            await trial.read(storage, same), [same], f"the id of a purged job that was {job.status} is free"
        )


@rule("R76", needs=frozenset({Need.INSPECT}))
async def purged_jobs_are_not_counted(trial: Trial) -> None:
    """After all is purged, no job is listed and no count is above 0."""
    storage = await trial.open()
    for status in ENDED:
        await trial.brought_to(storage, status)
    await acts.purge(storage, *ENDED, now=T0 + DAY)
    page = await inspector_of(storage).find_jobs(JobFilter())
    trial.check.equal(page.jobs, (), "the list after everything was purged")
    counts = await inspector_of(storage).count_jobs(JobFilter())
    trial.check.equal(sum(counts.values()), 0, "the sum of the counts after everything was purged")


@rule("R76", needs=frozenset({Need.STORE_SIZE}), deadline=timedelta(seconds=360))
async def the_store_does_not_grow_with_what_was_purged(trial: Trial) -> None:
    """After 50 cycles of 200 jobs, stored, run and purged, the store is at most twice as large as after 5."""
    storage = await trial.open()
    sizes: list[int] = []
    for cycle in range(50):
        queue, now = trial.queue(), T0 + cycle * MINUTE
        await storage.store_jobs([trial.job(queue, key=f"{cycle} {n}", execute_after=now) for n in range(200)])
        taken = await trial.drain(storage, queue, now=now, limit=200)
        await storage.settle_jobs([Settlement(job.lease, Succeeded(Payload("x" * 100))) for job in taken], now=now)
        seen = await acts.purge(storage, JobStatus.SUCCEEDED, now=now)
        trial.check.equal(seen, Purged(0, 200), "a purge of what has succeeded")
        sizes.append(await trial.aided(trial.subject.store_size, trial.url))
    trial.check.true(
        sizes[49] <= 2 * max(sizes[4], 1),
        "the store does not grow with what was purged",
        expected=f"after 50 cycles at most twice the size after 5, {sizes[4]}",
        seen=f"{sizes[49]}",
    )


@rule("R77")
async def an_expired_job_never_runs(trial: Trial) -> None:
    """From its expiry on a pending job is not claimed; purge makes it EXPIRED, its payload intact; nor is it after."""
    storage = await trial.open()
    full = evolve(full_job(trial.tracking_id(), trial.queue()), expire_on=T0 + MINUTE)
    scheduled = trial.job(trial.queue(), execute_after=T0 + 30 * SECOND, expire_on=T0 + MINUTE, command=b"\0bytes")
    await storage.store_jobs([full, scheduled])
    for now in (T0 + MINUTE, T0 + MINUTE + SECOND, T0 + DAY):
        taken = await acts.claimed_ids(storage, full.queue_id, scheduled.queue_id, now=now)
        trial.check.equal(taken, [], f"jobs that expired at {T0 + MINUTE}, claimed at {now}")
    fresh = trial.job(trial.queue(), expire_on=T0 + MINUTE, command={"kept": ["whole"]})
    await storage.store_jobs([fresh])
    await acts.purge(storage, now=T0 + 2 * MINUTE)
    expired = evolve(fresh, status=JobStatus.EXPIRED, finished_at=T0 + 2 * MINUTE)
    trial.check.equal(await trial.read(storage, fresh), [expired], "the record of a job that a purge marked")
    for job, seen in zip((full, scheduled), await trial.read(storage, full, scheduled), strict=True):
        marked = evolve(job, status=JobStatus.EXPIRED, finished_at=seen.finished_at or T0)
        trial.check.equal(seen, marked, "an expired job keeps its payload, whoever marked it")
    for job in (full, scheduled, fresh):
        taken = await acts.claimed_ids(storage, job.queue_id, now=T0 + MINUTE - trial.tick)
        trial.check.equal(taken, [], "a job that is EXPIRED is never claimed, not even at an earlier now")


@rule("R77")
async def an_expired_job_keeps_what_its_attempts_left(trial: Trial) -> None:
    """Marking a job that has run, waiting again or with a lapsed lease, changes its status and finished_at only."""
    storage = await trial.open()
    for settles in (True, False):
        for is_claimed_first in (True, False):
            job = await acts.tried_twice(trial, storage)
            if settles:
                await acts.must_settle(trial.check, storage, job, retry(T0 + 2 * MINUTE))
            (before,) = await trial.read(storage, job)
            if is_claimed_first:  # which may mark it (R33)
                await acts.claim(storage, job.queue_id, now=T0 + DAY)
            await acts.purge(storage, now=T0 + DAY, queue_ids=frozenset({job.queue_id}))
            expired = evolve(before, status=JobStatus.EXPIRED, finished_at=T0 + DAY)
            trial.check.equal(
                await trial.read(storage, job), [expired], f"a job that was {before.status} and had errors, expired"
            )


@rule("R77", needs=frozenset({Need.INSPECT}))
async def an_expired_job_is_listed(trial: Trial) -> None:
    """A job that a purge has marked is found among the EXPIRED ones, its payload intact."""
    storage = await trial.open()
    job = trial.job(trial.queue(), expire_on=T0 + MINUTE, command={"kept": ["whole"]})
    await storage.store_jobs([job])
    await acts.purge(storage, now=T0 + MINUTE)
    page = await inspector_of(storage).find_jobs(JobFilter(statuses=frozenset({JobStatus.EXPIRED})))
    expired = evolve(job, status=JobStatus.EXPIRED, finished_at=T0 + MINUTE)
    trial.check.equal(page.jobs, (expired,), "the list of EXPIRED jobs")


@rule("R78")
async def a_purge_honours_its_queues(trial: Trial) -> None:
    """Only jobs of the named queues are marked or deleted; no name matches nothing; None means all."""
    storage = await trial.open()
    ends = T0 + MINUTE
    queues = [trial.queue() for _ in range(5)]
    expiring = [trial.job(queue, expire_on=ends) for queue in queues]
    over = [await trial.brought_to(storage, JobStatus.CANCELLED, trial.job(queue)) for queue in queues]
    await storage.store_jobs(expiring)
    for asked, expected in (
        (frozenset[str](), Purged(0, 0)),
        (frozenset({"no such queue"}), Purged(0, 0)),
        (frozenset({queues[1]}), Purged(1, 1)),
        (frozenset({queues[3], queues[4], "no such queue"}), Purged(2, 2)),
    ):
        seen = await acts.purge(storage, JobStatus.CANCELLED, now=ends, queue_ids=asked)
        trial.check.equal(seen, expected, f"a purge of the queues {sorted(asked)}")
    others = [expiring[0], expiring[2], over[0], over[2]]
    trial.check.equal(await trial.read(storage, *others), others, "jobs of queues that a purge was not to touch")
    rest = await acts.purge(storage, JobStatus.CANCELLED, now=ends)
    trial.check.equal(rest, Purged(2, 2), "a purge of all queues")


@rule("R78")
async def a_purge_of_many_queues_purges_all_of_them(trial: Trial) -> None:
    """However many queues a purge names, those that stand last are purged as well as the first."""
    storage = await trial.open()
    count = trial.sized("queues of a purge", 1_100, least=120, seconds=0.5)
    queues = [f"one of many {number:04}" for number in range(count)]
    asked = [queues[0], queues[count // 2], queues[-1]]
    over = [await trial.brought_to(storage, JobStatus.CANCELLED, trial.job(queue)) for queue in asked]
    await storage.store_jobs([trial.job(queue, expire_on=T0 + MINUTE) for queue in asked])

    stale = StaleJobs(
        now=T0 + MINUTE, keep={JobStatus.CANCELLED: timedelta(0)}, queue_ids=frozenset(queues), limit=1000
    )
    total = await _purge_to_the_end(trial, storage, stale, calls=20)

    trial.check.equal(total, Purged(len(asked), len(over)), f"what is purged of {count} queues")


@rule("R78", needs=frozenset({Need.INSPECT}))
async def a_requeued_job_starts_anew(trial: Trial) -> None:
    """A FAILED, CANCELLED or EXPIRED job is PENDING again as of now, counters and values cleared, the rest kept."""
    storage = await trial.open()
    inspector = inspector_of(storage)
    for status in (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED):
        for expire_on in (None, T0 + 3 * DAY + 7 * trial.tick):
            job = await _lived_through(trial, storage, status)
            now = T0 + 2 * DAY + 3 * trial.tick
            answer = await inspector.requeue_job(job.tracking_id, now=now, expire_on=expire_on)
            trial.check.equal(answer, Requeue.REQUEUED, f"requeueing a job that is {status}")
            anew = evolve(
                job,
                status=JobStatus.PENDING,
                execute_after=now,
                dequeue_after=now,
                expire_on=expire_on,
                attempt=0,
                lapses=0,
                fence=job.fence + 1,
                progress=None,
                result=None,
                worker_id=None,
                finished_at=None,
            )
            trial.check.equal(
                await trial.read(storage, job), [anew], f"the record of a job that was {status}, requeued"
            )
            await acts.must_refuse(trial.check, storage, job, failed(), "its job was requeued", now=now)
            await acts.must_refuse(trial.check, storage, job, Release(), "its job was requeued", now=now)
            again = trial.job(job.queue_id, key=job.idempotency_key, execute_after=now)
            trial.check.equal(
                await storage.store_jobs([again]), [job.tracking_id], "the key of a requeued job still stands"
            )
            seen = await _purge_only(storage, job, dict.fromkeys(ENDED, timedelta(0)), now)
            trial.check.equal(seen, Purged(0, 0), f"a purge of a job that was {status}, requeued")
            early = await acts.claimed_ids(storage, job.queue_id, now=now - trial.tick)
            trial.check.equal(early, [], "a requeued job one tick before its new time")
            taken = await acts.claim(storage, job.queue_id, now=now)
            trial.check.equal(
                [(each.attempt, each.lapses, each.fence) for each in taken],
                [(1, 0, job.fence + 2)],
                "attempt, lapses and fence of the claim of a requeued job",
            )


@rule("R78", needs=frozenset({Need.INSPECT}))
async def simultaneous_requeues_and_a_claim_agree(trial: Trial) -> None:
    """Of two requeues of a job one is applied, and a claim beside them runs it once, under a fence of its own."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(20):
        job = await trial.brought_to(storage, JobStatus.FAILED)

        async def requeue(instance: JobStorageProvider, job: JobRecord = job) -> list[Requeue | Lease]:
            answer = await inspector_of(instance).requeue_job(job.tracking_id, now=T0, expire_on=None)
            return [answer]

        async def claim(job: JobRecord = job) -> list[Requeue | Lease]:
            return [taken.lease for taken in await acts.claim(storage, job.queue_id)]

        one, two, taken = await trial.check.answers(
            schedule.jittered(requeue(storage), requeue(second), claim()), "requeueing and claiming at once is no error"
        )
        trial.check.counts(
            [*one, *two], [Requeue.REQUEUED, Requeue.NOT_COMPLETE], "of two requeues at the same time one is applied"
        )
        (after,) = await trial.read(storage, job)
        trial.check.equal(
            (after.status, after.fence, taken),
            (JobStatus.RUNNING, 3, [Lease(job.tracking_id, 3)]) if taken else (JobStatus.PENDING, 2, taken),
            "the record after both is as all answers say",
        )


@rule("R78", needs=frozenset({Need.INSPECT}))
async def a_requeue_replaces_an_expiry_that_lies_ahead(trial: Trial) -> None:
    """A job that ended before its expiry gets the expiry of its requeue, be it none, an earlier or a later one."""
    storage = await trial.open()
    for status in (JobStatus.FAILED, JobStatus.CANCELLED):
        for expire_on in (None, T0 + 2 * MINUTE, T0 + 3 * DAY):
            job, now = await _lived_through(trial, storage, status), T0 + MINUTE
            answer = await inspector_of(storage).requeue_job(job.tracking_id, now=now, expire_on=expire_on)
            trial.check.equal(answer, Requeue.REQUEUED, f"requeueing a job that is {status} before its expiry")
            (anew,) = await trial.read(storage, job)
            trial.check.equal(anew.expire_on, expire_on, f"the expiry of a job requeued before {job.expire_on}")
            last = T0 + 10 * DAY if expire_on is None else expire_on - trial.tick
            taken = await acts.claimed_ids(storage, job.queue_id, now=last)
            trial.check.equal(taken, [job.tracking_id], f"a job requeued to expire on {expire_on}, claimed at {last}")


async def _lived_through(trial: Trial, storage: JobStorageProvider, status: JobStatus) -> JobRecord:
    """Return a job with errors, progress and lapses that has come to *status* while it ran."""
    job = await acts.tried_twice(trial, storage)
    match status:
        case JobStatus.FAILED:
            await acts.must_settle(trial.check, storage, job, failed())
        case JobStatus.CANCELLED:
            await acts.cancelled(storage, job)
        case _:
            await acts.purge(storage, now=T0 + DAY, queue_ids=frozenset({job.queue_id}))
    (ended,) = await trial.read(storage, job)
    trial.check.equal(ended.status, status, f"a job that ran can come to {status}")
    return ended


@rule("R78", needs=frozenset({Need.INSPECT}))
async def no_job_is_requeued_that_could_never_run(trial: Trial) -> None:
    """An expire_on at or before now is refused, and the job stays as it was."""
    storage = await trial.open()
    job = await trial.brought_to(storage, JobStatus.FAILED)
    now = T0 + DAY
    for expire_on in (now, now - trial.tick):
        await trial.check.raises(
            ValueError,
            inspector_of(storage).requeue_job(job.tracking_id, now=now, expire_on=expire_on),
            f"a requeue at {now} that expires on {expire_on} is refused",
        )
        trial.check.equal(await trial.read(storage, job), [job], "a refused requeue changes nothing")


@rule("R78", needs=frozenset({Need.INSPECT}))
async def only_what_ended_without_success_is_requeued(trial: Trial) -> None:
    """An unfinished, a SUCCEEDED and an unknown job are told apart and left as they are."""
    storage = await trial.open()
    inspector = inspector_of(storage)
    scheduled = trial.job(trial.queue(), execute_after=T0 + DAY)
    await storage.store_jobs([scheduled])
    for job, expected in (
        (scheduled, Requeue.NOT_COMPLETE),
        (await trial.brought_to(storage, JobStatus.PENDING), Requeue.NOT_COMPLETE),
        (await trial.brought_to(storage, JobStatus.RUNNING), Requeue.NOT_COMPLETE),
        (await trial.brought_to(storage, JobStatus.SUCCEEDED), Requeue.ALREADY_SUCCEEDED),
    ):
        answer = await inspector.requeue_job(job.tracking_id, now=T0 + MINUTE, expire_on=T0 + DAY)
        trial.check.equal(answer, expected, f"requeueing a job that is {job.status}")
        trial.check.equal(await trial.read(storage, job), [job], f"a job that is {job.status} is not requeued")
    unknown = await trial.check.answers(
        inspector.requeue_job(trial.tracking_id(), now=T0, expire_on=None), "requeueing an unknown job is no error"
    )
    trial.check.equal(unknown, Requeue.NOT_FOUND, "requeueing an unknown job")
