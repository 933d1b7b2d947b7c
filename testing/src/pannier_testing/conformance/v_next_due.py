"""Section V, R121: what a claim says of the next due instant."""

from datetime import datetime, timedelta
from itertools import permutations

from attrs import evolve

from pannier.claims import Claim, Demand
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, LOOK_AHEAD, MINUTE, SECOND, T0, claim_of, retry
from pannier_testing.rules import rule
from pannier_testing.trial import Trial


async def names(trial: Trial, storage: JobStorageProvider, claim: Claim, exact: datetime | None, about: str) -> None:
    """Claim until nothing more is taken, and check that next_due is a bound for *exact*, and not needlessly early."""
    claimed = await storage.claim_jobs(claim)
    for _ in range(50):
        if claimed.next_due is None or claimed.next_due > claim.now:
            break
        if exact is not None and exact <= claim.now:
            return
        claimed = await storage.claim_jobs(claim)
    is_bound = exact is None or (claimed.next_due is not None and claimed.next_due <= exact)
    is_late_enough = claimed.next_due is None or claimed.next_due > claim.now
    trial.check.true(
        is_bound and is_late_enough,
        f"next_due is a lower bound, and after now where nothing is due: {about}",
        expected=f"after {claim.now}, at or before {exact}",
        seen=f"{claimed.next_due}",
    )


@rule("R121")
async def next_due_counts_every_job_that_was_not_taken(trial: Trial) -> None:
    """Jobs of the future, retries, ends of leases and what the limit left all count; expired and other jobs do not."""
    storage, tick = await trial.open(), trial.tick
    queue, other, far = trial.queue(), trial.queue(), T0 + 20 * MINUTE
    nothing = claim_of(trial.queue(), limit=3)
    await names(trial, storage, nothing, None, "an empty queue")

    await storage.store_jobs([trial.job(queue, execute_after=far), trial.job(other, execute_after=T0 + SECOND)])
    await names(trial, storage, claim_of(queue, limit=3), far, "a job of the future")
    await storage.store_jobs([trial.job(queue, execute_after=far - MINUTE, priority=-100)])
    await names(trial, storage, claim_of(queue, limit=3), far - MINUTE, "an earlier one of low priority")
    await storage.store_jobs([trial.job(queue, execute_after=T0, expire_on=T0 + SECOND)])
    late = claim_of(queue, limit=3, now=T0 + SECOND)
    await names(trial, storage, late, far - MINUTE, "a job that has expired does not count")

    held = trial.job(queue, execute_after=T0 + 2 * SECOND)
    await storage.store_jobs([held])
    (held,) = await acts.claim(storage, queue, now=T0 + 2 * SECOND)
    now = T0 + 3 * SECOND
    await names(trial, storage, claim_of(queue, limit=3, now=now), held.dequeue_after, "the end of a lease")
    await acts.renew(storage, held, now=now, lease_for=2 * LEASE)
    await names(trial, storage, claim_of(queue, limit=3, now=now), now + 2 * LEASE, "the end of a renewed lease")
    await acts.must_settle(trial.check, storage, held, retry(now + 10 * SECOND + tick), now=now)
    await names(trial, storage, claim_of(queue, limit=3, now=now), now + 10 * SECOND + tick, "the time of a retry")


@rule("R121")
async def next_due_counts_demands_of_nothing(trial: Trial) -> None:
    """A demand with the limit 0 counts, beside others and alone: what is due there means 'ask again'."""
    storage = await trial.open()
    for seconds in (0, 5, 60):
        full, empty, at = trial.queue(), trial.queue(), T0 + seconds * SECOND
        await storage.store_jobs([trial.job(full, execute_after=at)])
        alone = claim_of(full, limit=0)
        beside = evolve(claim_of(), demands=(Demand((empty,), 3), Demand((full,), 0)))
        for claim in (alone, beside):
            await names(trial, storage, claim, at, f"a demand of nothing, a job due {seconds} s from now")


@rule("R121")
async def next_due_is_the_first_of_all_demands(trial: Trial) -> None:
    """Of several demands, and of several queues in one, the job that is due first is named, wherever it stands."""
    storage = await trial.open()
    early, late, empty = trial.queue(), trial.queue(), trial.queue()
    await storage.store_jobs(
        [trial.job(early, execute_after=T0 + 5 * SECOND), trial.job(late, execute_after=T0 + MINUTE)]
    )
    for order in permutations((early, late, empty)):
        apart = evolve(claim_of(), demands=tuple(Demand((queue,), 2) for queue in order))
        for claim, about in ((apart, "demands"), (claim_of(*order, limit=2), "queues of one demand")):
            await names(trial, storage, claim, T0 + 5 * SECOND, f"jobs in several {about}, in any order")


@rule("R121")
async def next_due_says_ask_again_where_the_limit_left_something(trial: Trial) -> None:
    """Where a limit leaves due jobs, next_due is not after now; where it leaves none, it is."""
    storage, queue = await trial.open(), trial.queue()
    await storage.store_jobs([*trial.jobs(3, queue), trial.job(queue, execute_after=T0 + MINUTE)])
    for left in (2, 1):
        claimed = await storage.claim_jobs(claim_of(queue, limit=1, lease_for=LOOK_AHEAD))
        trial.check.true(
            claimed.next_due is not None and claimed.next_due <= T0,
            f"with {left} due jobs left next_due means 'ask again'",
            expected=f"at or before {T0}",
            seen=claimed.next_due,
        )
    last = claim_of(queue, limit=1, lease_for=LOOK_AHEAD)
    await names(trial, storage, last, T0 + MINUTE, "what the limit has left is not due yet")


@rule("R121")
async def next_due_need_not_look_beyond_its_horizon(trial: Trial) -> None:
    """What lies within look_ahead is named, up to its end; what lies beyond need not be."""
    storage = await trial.open()
    for ahead in (timedelta(0), trial.tick, SECOND, LOOK_AHEAD):
        queue, at = trial.queue(), T0 + ahead + trial.tick
        await storage.store_jobs([trial.job(queue, execute_after=at)])
        within = claim_of(queue, limit=1, look_ahead=ahead + trial.tick)
        await names(trial, storage, within, at, f"a job at the end of a look {ahead + trial.tick} ahead")
        short = await storage.claim_jobs(claim_of(queue, limit=1, look_ahead=ahead))
        trial.check.true(
            short.next_due is None or T0 < short.next_due <= at,
            f"a job beyond a look {ahead} ahead need not be named, and nothing is due before it",
            expected=f"None, or after {T0} and at or before {at}",
            seen=short.next_due,
        )


@rule("R121")
async def next_due_counts_what_was_passed_over(trial: Trial) -> None:
    """Of simultaneous claims each counts the jobs that it passed over, or found leased, because another had them."""
    storage, other = await trial.open(), await trial.open()
    for schedule in trial.schedules(10):
        queue = trial.queue()
        await storage.store_jobs(trial.jobs(4, queue))
        claims = [claim_of(queue, limit=9, worker=f"worker-{n}") for n in range(4)]

        calls = (instance.claim_jobs(claim) for instance, claim in zip((storage, other) * 2, claims, strict=True))
        answers = await schedule.jittered(*calls)

        for claimed in answers:
            trial.check.true(
                len(claimed.jobs) == 4 or (claimed.next_due is not None and claimed.next_due <= T0 + LEASE),
                "a claim that did not get every job names the end of the others' leases, or an earlier instant",
                expected=f"at or before {T0 + LEASE}",
                seen=f"{claimed.next_due}, with {len(claimed.jobs)} jobs",
            )
