"""Section C, continued: in which order a claim takes jobs, and what does not stand in the way."""

from typing import Final

from pannier.records import PRIORITIES, JobRecord
from pannier.settlements import Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import MINUTE, SECOND, T0, claim_of, ids_of, retry
from pannier_testing.rules import rule
from pannier_testing.trial import Trial

HOUR: Final = 60 * MINUTE


@rule("R25")
async def jobs_are_taken_in_their_order(trial: Trial) -> None:
    """One claimer takes lapsed leases first, oldest end first, then by priority, due time and tracking id."""
    storage = await trial.open()
    for at_once in (1, 3, 7):
        queue = trial.queue()
        lapsed = await lapsed_leases(trial, storage, queue)
        pending = [
            trial.job(queue, priority=priority, execute_after=T0 - seconds * SECOND)
            for priority in (-3, 0, 5)
            for seconds in (9, 9, 9, 4, 0)
        ]
        pending.append(trial.job(queue, priority=5, execute_after=T0 - SECOND / 2))
        await storage.store_jobs(trial.rng.sample(pending, len(pending)))

        line = sorted(pending, key=lambda job: (-job.priority, job.dequeue_after, job.tracking_id))
        order = [*lapsed, *line]
        words = {job.tracking_id: in_words(job, is_lapsed=job in lapsed) for job in order}
        claim = claim_of(queue, limit=at_once, lease_for=1000 * HOUR)
        for start in range(0, len(order), at_once):
            taken = await acts.take(storage, claim)
            last = f" to {start + at_once}" if at_once > 1 else ""
            trial.check.counts(
                [words[job.tracking_id] for job in taken],
                [words[job.tracking_id] for job in order[start : start + at_once]],
                f"claims of {at_once} take what comes next: lapsed leases by their ends, then by priority, due time, "
                f"tracking id; of {len(order)} jobs, those at the places {start + 1}{last}",
            )


def in_words(job: JobRecord, *, is_lapsed: bool) -> str:
    """Say what decides where *job* stands in line."""
    due = (job.dequeue_after - T0).total_seconds()
    turn = "whose lease has lapsed" if is_lapsed else f"due at {due:g} s"
    return f"a job of priority {job.priority}, {turn}, {str(job.tracking_id)[:8]}"


async def lapsed_leases(trial: Trial, storage: JobStorageProvider, queue: str) -> list[JobRecord]:
    """Store four jobs of low and high priority, and let their leases lapse; return them, oldest end first."""
    jobs = [trial.job(queue, priority=priority, execute_after=T0 - HOUR) for priority in (-100, 100, -50, 0)]
    for job, lease_for in zip(jobs, (2, 4, 1, 3), strict=True):
        await storage.store_jobs([job])
        taken = await acts.claim(storage, queue, now=T0 - HOUR, lease_for=lease_for * MINUTE)
        trial.check.equal(ids_of(taken), [job.tracking_id], "the only job that is due is claimed")
    return [jobs[2], jobs[0], jobs[3], jobs[1]]


@rule("R25")
async def leases_that_lapsed_a_tick_apart_are_taken_by_their_ends(trial: Trial) -> None:
    """Of leases that ended within a second the one that ended first is taken first, to the tick."""
    storage, queue = await trial.open(), trial.queue()
    jobs = trial.jobs(8, queue)
    for number in trial.rng.sample(range(8), 8):
        await storage.store_jobs([jobs[number]])
        taken = await acts.claim(storage, queue, lease_for=MINUTE + number * trial.tick)
        trial.check.equal(ids_of(taken), [jobs[number].tracking_id], "the only job that is due is claimed")

    order = await acts.taken_in_turn(storage, queue, now=T0 + 2 * MINUTE, count=8)

    places = [ids_of(jobs).index(tracking_id) for tracking_id in order]
    trial.check.equal(places, [*range(8)], "leases that lapsed a tick apart, numbered by that, are taken in order")


@rule("R25")
async def the_names_of_a_demand_keep_lapsed_leases_and_priorities_in_order(trial: Trial) -> None:
    """Across the queues of one demand lapsed leases come first, then higher priorities."""
    storage = await trial.open()
    queues = [trial.queue() for _ in range(3)]
    lapsed = [job for queue in queues[:2] for job in await lapsed_leases(trial, storage, queue)]
    pending = [trial.job(queue, priority=priority) for queue in queues for priority in (-9, 0, 9)]
    await storage.store_jobs(trial.rng.sample(pending, len(pending)))

    order = await acts.taken_in_turn(storage, *queues, now=T0, count=len(lapsed) + len(pending))

    turns = {job.tracking_id: "lapsed" for job in lapsed}
    turns |= {job.tracking_id: f"priority {job.priority}" for job in pending}
    trial.check.counts(order, turns, "every due job of a demand's queues is taken")
    trial.check.equal(
        [turns[tracking_id] for tracking_id in order],
        [turns[job.tracking_id] for job in (*lapsed, *sorted(pending, key=lambda job: -job.priority))],
        "across the queues of a demand lapsed leases are taken first, then by priority",
    )


@rule("R26")
async def higher_priorities_are_taken_first(trial: Trial) -> None:
    """Every priority from -100 to 100 is taken before all lower ones, whatever their times."""
    storage, queue = await trial.open(), trial.queue()
    jobs = [trial.job(queue, priority=p, execute_after=T0 - (100 + p) * SECOND) for p in PRIORITIES]
    jobs += [trial.job(queue, priority=p, execute_after=T0 - HOUR) for p in (-100, -1)]
    await storage.store_jobs(trial.rng.sample(jobs, len(jobs)))
    line = sorted(jobs, key=lambda job: (-job.priority, job.dequeue_after))

    claim = claim_of(queue, limit=29)
    for start in range(0, len(line), 29):
        taken = await acts.take(storage, claim)
        trial.check.counts(
            (job.priority for job in taken),
            (job.priority for job in line[start : start + 29]),
            f"the priorities {start + 1} to {start + 29} of the order are taken together",
        )


@rule("R26")
async def inside_a_priority_first_in_is_first_out(trial: Trial) -> None:
    """Jobs of one priority are taken by their times, whenever they were made or stored."""
    storage = await trial.open()
    for priority in (-1, 0, 1):
        queue = trial.queue()
        jobs = [
            trial.job(queue, priority=priority, execute_after=T0 + n * SECOND / 3, created_at=T0 - n * SECOND)
            for n in range(9)
        ]
        await storage.store_jobs(jobs[5:])
        await storage.store_jobs(jobs[:5][::-1])

        order = await acts.taken_in_turn(storage, queue, now=T0 + MINUTE, count=9)

        trial.check.equal(order, ids_of(jobs), "inside a priority first in is first out")


@rule("R26")
async def the_smallest_differences_of_time_count_at_every_priority(trial: Trial) -> None:
    """Jobs a tick apart are taken in their order at the highest and lowest priorities as well as at 0."""
    storage = await trial.open()
    for priority in (-100, -1, 0, 1, 100):
        queue = trial.queue()
        jobs = [trial.job(queue, priority=priority, execute_after=T0 + n * trial.tick) for n in range(9)]
        jobs.sort(key=lambda job: (job.execute_after, job.tracking_id))
        await storage.store_jobs(trial.rng.sample(jobs, len(jobs)))

        order = await acts.taken_in_turn(storage, queue, now=T0 + MINUTE, count=9)

        places = [ids_of(jobs).index(tracking_id) for tracking_id in order]
        promise = f"at the priority {priority}, jobs that are due a tick apart, numbered by that, are taken in order"
        trial.check.equal(places, [*range(9)], promise)


@rule("R26")
async def a_released_job_keeps_its_place_and_a_retried_one_has_that_of_its_time(trial: Trial) -> None:
    """A released job is taken next again; a retried one among those that are due when it is."""
    storage, queue, now = await trial.open(), trial.queue(), T0 + MINUTE
    jobs = [trial.job(queue, execute_after=T0 + n * 10 * SECOND) for n in range(5)]
    await storage.store_jobs(jobs)

    (first,) = await acts.claim(storage, queue, now=now, limit=1)
    await acts.must_settle(trial.check, storage, first, Release(), now=now)
    (again,) = await acts.claim(storage, queue, now=now, limit=1)
    trial.check.equal(again.tracking_id, jobs[0].tracking_id, "a released job keeps its place")
    await acts.must_settle(trial.check, storage, again, retry(T0 + 25 * SECOND), now=now)
    (second,) = await acts.claim(storage, queue, now=now, limit=1)
    await acts.must_settle(trial.check, storage, second, Release(), now=now)

    order = await acts.taken_in_turn(storage, queue, now=now, count=5)
    expected = ids_of([jobs[1], jobs[2], jobs[0], jobs[3], jobs[4]])
    trial.check.equal(order, expected, "a released job keeps its place, a retried one has that of its retry time")


@rule("R26")
async def a_job_that_comes_back_has_its_priority(trial: Trial) -> None:
    """A released or retried job is taken by its priority as before, whatever its time."""
    storage = await trial.open()
    for outcome in (Release(), retry(T0), retry(T0 + SECOND)):
        for priority in (50, -50):
            queue = trial.queue()
            job = await trial.started(storage, trial.job(queue, priority=priority))
            await acts.must_settle(trial.check, storage, job, outcome)
            others = [trial.job(queue, priority=p, execute_after=T0 - HOUR) for p in (49, -49)]
            await storage.store_jobs(others)

            order = await acts.taken_in_turn(storage, queue, now=T0 + MINUTE, count=3)

            expected = ids_of([job, *others] if priority > 0 else [*others, job])
            name = type(outcome).__name__
            trial.check.equal(order, expected, f"a job of priority {priority} that came back by {name} has its turn")


@rule("R27")
async def what_is_not_due_does_not_hide_what_is(trial: Trial) -> None:
    """However many jobs before it are not eligible, one that is due is taken, and as many as were asked for."""
    storage = await trial.open()
    count = trial.sized("jobs that are not eligible", 1_000, least=250, seconds=0.5)
    leased, future, other = trial.queue(), trial.queue(), trial.queue()
    front = {"priority": 100, "execute_after": T0 - HOUR}
    await storage.store_jobs(
        [
            *trial.jobs(count, leased, **front),
            *trial.jobs(count, future, priority=100, execute_after=T0 + SECOND),
            *trial.jobs(count, other, **front),
        ]
    )
    held = await trial.drain(storage, leased, limit=count, lease_for=HOUR)
    trial.check.equal(len(held), count, "all that is due can be leased")
    for queue in (leased, future, trial.queue()):
        due = trial.jobs(12, queue, execute_after=T0 - SECOND)
        await storage.store_jobs(due)
        one = await storage.claim_jobs(claim_of(queue, limit=1))
        trial.check.equal(len(one.jobs), 1, f"of {count} jobs that are not due and 12 that are, a claim of 1 takes one")
        many = await storage.claim_jobs(claim_of(queue, limit=10))
        is_cut_short = many.next_due is not None and many.next_due <= T0
        trial.check.true(
            len(many.jobs) == 10 or is_cut_short,
            "a lone claimer gets as many as it asks for, or is told to ask again",
            expected="10 jobs",
            seen=f"{len(many.jobs)} jobs, next_due {many.next_due}",
        )
        rest = await trial.drain(storage, queue)
        trial.check.counts(ids_of([*one.jobs, *many.jobs, *rest]), ids_of(due), "all that is due is taken in the end")


@rule("R27")
async def a_long_line_does_not_hide_its_end(trial: Trial) -> None:
    """Behind thousands that are not due yet, and go first by priority and age, the one that is due is taken."""
    storage, queue = await trial.open(), trial.queue()
    count = trial.sized("jobs in front of the one that is due", 4_000, least=2_000, seconds=0.5)
    await storage.store_jobs(trial.jobs(count, queue, priority=100, execute_after=T0 + SECOND, created_at=T0 - HOUR))
    due = trial.job(queue)
    await storage.store_jobs([due])
    taken = await acts.take(storage, claim_of(queue, limit=1))
    trial.check.equal(ids_of(taken), [due.tracking_id], f"{count} jobs that are not due do not hide one that is")


@rule("R27")
async def what_has_ended_or_expired_does_not_hide_what_is_due(trial: Trial) -> None:
    """However many finished and expired jobs stand before it, one that is due is taken, if need be by asking again."""
    storage = await trial.open()
    count = trial.sized("jobs that have ended or expired", 1_000, least=250, seconds=0.5)
    ended, expired = trial.queue(), trial.queue()
    await storage.store_jobs(
        [
            *trial.jobs(count, ended, priority=100, execute_after=T0 - HOUR),
            *trial.jobs(count, expired, priority=100, execute_after=T0 - HOUR, expire_on=T0 - MINUTE),
        ]
    )
    done = await trial.drain(storage, ended, limit=count)
    refused = await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in done], now=T0)
    trial.check.equal(refused, frozenset(), "all that is held can be settled")
    for queue in (ended, expired):
        due = trial.job(queue, execute_after=T0 - SECOND)
        await storage.store_jobs([due])
        taken = await acts.take(storage, claim_of(queue, limit=1))
        trial.check.equal(ids_of(taken), [due.tracking_id], f"{count} jobs that are over do not hide one that is due")
