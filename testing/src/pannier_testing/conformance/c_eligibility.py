"""Section C: which jobs a claim takes, and in which order."""

from datetime import datetime, timedelta
from typing import Final

from attrs import evolve
from hypothesis import strategies as st

from pannier.claims import Demand
from pannier.instants import round_down, round_up
from pannier.records import COMPLETE, JobRecord, Lease
from pannier.settlements import Settlement
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, claim_of, ids_of, retry
from pannier_testing.rules import rule
from pannier_testing.trial import Trial

HOUR: Final = 60 * MINUTE
MICROSECOND: Final = timedelta(microseconds=1)


def instants(trial: Trial) -> list[datetime]:
    """Return instants of all kinds, on the storage's grid."""
    kinds = [
        T0,
        T0 + trial.tick,
        T0 + SECOND - trial.tick,
        T0 + SECOND / 2,
        T0 + 9 * HOUR + SECOND / 4,
        datetime(2032, 2, 29, 23, 59, 59, 999_000, T0.tzinfo),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=T0.tzinfo),
        *(T0 + timedelta(microseconds=trial.rng.randrange(10**12)) for _ in range(4)),
    ]
    return [round_up(at, trial.tick) for at in kinds]


@rule("R19")
async def a_job_is_claimable_from_its_time_on(trial: Trial) -> None:
    """A job that may start at T is not claimable one tick before T, and is at T."""
    storage = await trial.open()
    for at in instants(trial):
        job = trial.job(trial.queue(), execute_after=at, created_at=T0)
        await storage.store_jobs([job])

        early = await trial.drain(storage, job.queue_id, now=at - trial.tick)
        due = await trial.drain(storage, job.queue_id, now=at)

        trial.check.equal(ids_of(early), [], f"a job for {at} is not claimable one tick before")
        trial.check.equal(ids_of(due), [job.tracking_id], f"a job for {at} is claimable then")


@rule("R19")
async def a_job_whose_time_is_long_past_is_claimable(trial: Trial) -> None:
    """A job that might have started long ago is claimable; one of the far future is not."""
    storage, queue = await trial.open(), trial.queue()
    past = trial.job(queue, execute_after=datetime(1999, 12, 31, 23, 59, 59, tzinfo=T0.tzinfo))
    future = trial.job(queue, execute_after=datetime(2999, 1, 1, tzinfo=T0.tzinfo))
    await storage.store_jobs([past, future])

    trial.check.equal(
        ids_of(await trial.drain(storage, queue)), [past.tracking_id], "what is past is due, what is to come is not"
    )


@rule("R20")
async def no_instant_is_rounded_towards_early(trial: Trial) -> None:
    """Off the grid, a start is rounded up and an expiry down: nothing starts early, nothing outlives its expiry."""
    storage = await trial.open()
    offsets = trial.examples(st.integers(1, 10**9), 25)
    for offset in [1, 999, 499_999, 500_000, 999_999, *offsets]:
        at = T0 + timedelta(microseconds=offset)
        expire_on = at + MINUTE + 7 * MICROSECOND
        starts, ends = round_up(at, trial.tick), round_down(expire_on, trial.tick)
        job, late = (trial.job(trial.queue(), execute_after=at, expire_on=expire_on) for _ in range(2))
        await storage.store_jobs([job, late])

        for early in (starts - trial.tick, starts - MICROSECOND, at - MICROSECOND, at.replace(microsecond=0) - SECOND):
            claimed = await acts.claim(storage, job.queue_id, now=early)
            trial.check.equal(ids_of(claimed), [], f"a job for {at} is not claimable at {early}")
        due = await acts.claim(storage, job.queue_id, now=starts)
        trial.check.equal(ids_of(due), [job.tracking_id], f"a job for {at} is claimable at {starts}")
        over = await trial.drain(storage, late.queue_id, now=ends)
        trial.check.equal(ids_of(over), [], f"a job that expires on {expire_on} is not claimable then")


@rule("R20")
async def leases_and_retries_are_rounded_up(trial: Trial) -> None:
    """Off the grid, the end of a lease and the time of a retry are rounded up."""
    storage = await trial.open()
    for offset in (1, 333, 999_999, trial.rng.randrange(10**8)):
        span = timedelta(microseconds=offset)
        job = trial.job(trial.queue())
        await storage.store_jobs([job])
        (held,) = await acts.claim(storage, job.queue_id, lease_for=span)
        ends = round_up(T0 + span, trial.tick)
        trial.check.equal(held.dequeue_after, ends, "a lease ends no earlier than asked")
        await acts.renew(storage, held, lease_for=span)
        (renewed,) = await trial.read(storage, held)
        trial.check.equal(renewed.dequeue_after, ends, "a renewed lease ends no earlier than asked")
        trial.check.equal(
            await acts.claim(storage, job.queue_id, now=ends - MICROSECOND), [], "a lease holds until its end"
        )
        (again,) = await acts.claim(storage, job.queue_id, now=ends)
        await acts.must_settle(trial.check, storage, again, retry(ends + span), now=ends)
        due = round_up(ends + span, trial.tick)
        (waiting,) = await trial.read(storage, job)
        trial.check.equal(waiting.dequeue_after, due, "a retry starts no earlier than asked")
        early = await acts.claim(storage, job.queue_id, now=due - MICROSECOND)
        trial.check.equal(early, [], "a retry is not claimable before its time")
        trial.check.equal(
            ids_of(await acts.claim(storage, job.queue_id, now=due)), [job.tracking_id], "a retry is claimable then"
        )


@rule("R20")
async def neighbouring_instants_stay_in_order(trial: Trial) -> None:
    """Jobs whose times are one resolution apart are claimed in the order of their times."""
    storage = await trial.open()
    for begins in instants(trial)[:6]:
        queue = trial.queue()
        jobs = [trial.job(queue, execute_after=begins + n * trial.tick) for n in range(5)]
        await storage.store_jobs(trial.rng.sample(jobs, len(jobs)))

        order = await acts.taken_in_turn(storage, queue, now=begins + 5 * trial.tick, count=5)

        trial.check.equal(order, ids_of(jobs), "times that are one resolution apart stay in order")


async def waits(storage: JobStorageProvider, job: JobRecord) -> None:
    """Store *job*."""
    await storage.store_jobs([job])


async def runs(storage: JobStorageProvider, job: JobRecord) -> None:
    """Store *job* and claim it at its time."""
    await storage.store_jobs([job])
    await acts.claim(storage, job.queue_id, now=job.execute_after)


async def waits_again(storage: JobStorageProvider, job: JobRecord) -> None:
    """Store *job*, claim it, and let it be tried again 20 seconds later."""
    await runs(storage, job)
    again = Settlement(Lease(job.tracking_id, 1), retry(job.execute_after + 20 * SECOND))
    await storage.settle_jobs([again], now=job.execute_after)


@rule("R21")
async def expiry_ends_what_may_be_claimed(trial: Trial) -> None:
    """A job that expires on T is claimable before T, expirable from T on, and at no instant both."""
    storage, tick = await trial.open(), trial.tick
    for at in (T0, T0 + HOUR + SECOND / 2 + 3 * tick):
        short, long, most = LEASE / 2, at + LEASE, at + HOUR
        table = [
            (waits, at + short, [at, at + short - tick], [at + short, at + short + tick, most], [at - tick]),
            (waits, at + tick, [at], [at + tick, most], [at - tick]),
            (waits_again, at + LEASE, [at + 20 * SECOND, long - tick], [long, most], [at, at + 20 * SECOND - tick]),
            (runs, at + 2 * LEASE, [long, at + 2 * LEASE - tick], [at + 2 * LEASE, most], [at, long - tick]),
            (runs, at + short, [], [long, long + tick, most], [at + short - tick, at + short, long - tick]),
            (runs, at + LEASE, [], [long, most], [long - tick]),
        ]
        for prepare, expire_on, claimable, expirable, neither in table:
            for now in (*claimable, *expirable, *neither):
                jobs = [trial.job(trial.queue(), execute_after=at, expire_on=expire_on) for _ in range(2)]
                for job in jobs:
                    await prepare(storage, job)
                taken = await trial.drain(storage, jobs[0].queue_id, now=now)
                marked = await acts.purge(storage, now=now, queue_ids=frozenset([jobs[1].queue_id]))
                about = f"a job that {prepare.__name__.replace('_', ' ')} and expires on {expire_on}, at {now}"
                trial.check.equal(
                    (len(taken), marked.expired),
                    (int(now in claimable), int(now in expirable)),
                    f"{about}: how many a claim takes, and how many a purge marks",
                )


@rule("R22")
async def what_has_ended_or_is_held_is_not_claimed(trial: Trial) -> None:
    """Jobs in a terminal status are never claimed again, however late, and leased ones not before their lease ends."""
    storage = await trial.open()
    ended = [await trial.brought_to(storage, status) for status in sorted(COMPLETE)]
    keyed = [
        await trial.brought_to(storage, s, trial.job(trial.queue(), key="k", priority=9)) for s in sorted(COMPLETE)
    ]
    queues = [job.queue_id for job in (*ended, *keyed)]
    for now in (T0 + MINUTE, T0 + MINUTE + LEASE, T0 + 2 * MINUTE, T0 + 24 * HOUR, T0 + 9999 * HOUR):
        claimed = await trial.drain(storage, *queues, now=now)
        statuses = {job.tracking_id: job.status for job in (*ended, *keyed)}
        trial.check.equal(
            [statuses.get(job.tracking_id) for job in claimed], [], f"what has ended is not claimed at {now}"
        )
    trial.check.equal(await trial.read(storage, *ended), ended, "claims leave what has ended as it is")


@rule("R22")
async def a_leased_job_is_claimed_by_nobody(trial: Trial) -> None:
    """A job under a live lease is claimed neither by others nor by its own worker; a renewal keeps it so."""
    storage = await trial.open()
    job = await trial.started(storage)
    for worker in ("worker-1", "worker-2"):
        for now in (T0, T0 + SECOND, T0 + LEASE - trial.tick):
            claimed = await acts.claim(storage, job.queue_id, now=now, worker=worker)
            trial.check.equal(claimed, [], f"a job under a live lease is not claimed at {now} by {worker}")
    await acts.renew(storage, job, now=T0 + LEASE - trial.tick, lease_for=HOUR)
    claimed = await acts.claim(storage, job.queue_id, now=T0 + HOUR)
    trial.check.equal(claimed, [], "a job whose lease was renewed is not claimed")


@rule("R23")
async def only_the_queues_that_are_asked_for_are_claimed(trial: Trial) -> None:
    """A claim takes jobs of its queues and of no other, however much there is; several queues give their union."""
    storage = await trial.open()
    mine, other, empty = "orders", "orders2", "order"
    jobs = {queue: trial.jobs(3, queue) for queue in (mine, other)}
    urgent = [
        trial.job(queue, priority=100, execute_after=T0 - HOUR) for queue in ("Orders", " orders", "orders ", "o")
    ]
    await storage.store_jobs([*jobs[mine], *jobs[other], *urgent])

    for nothing in ((empty,), ("unknown",), (empty, "unknown"), ("ORDERS", "rders")):
        claimed = await storage.claim_jobs(claim_of(*nothing, limit=10))
        trial.check.equal(claimed.jobs, (), f"a claim of {nothing} takes nothing of other queues")

    first = await storage.claim_jobs(claim_of(mine, limit=2))
    trial.check.equal({job.queue_id for job in first.jobs}, {mine}, "a claim takes jobs of the queue that it asks for")
    rest = await trial.drain(storage, mine, empty)
    trial.check.counts(
        ids_of([*first.jobs, *rest]), ids_of(jobs[mine]), "a claim of an empty and a full queue takes those of the full"
    )
    union = await trial.drain(storage, other, "o", "Orders")
    trial.check.counts(
        ids_of(union),
        ids_of([*jobs[other], *(job for job in urgent if job.queue_id in ("o", "Orders"))]),
        "a claim of several queues takes the jobs of all of them",
    )


@rule("R23")
async def each_demand_takes_from_its_own_queues(trial: Trial) -> None:
    """A claim with several demands takes from each what that one asks for, and lapsed leases of no other queue."""
    storage = await trial.open()
    queues = [trial.queue() for _ in range(4)]
    jobs = {queue: trial.jobs(4, queue, execute_after=T0 - MINUTE) for queue in queues}
    await storage.store_jobs([job for queue in queues for job in jobs[queue]])
    lapsed = await acts.claim(storage, queues[3], now=T0 - MINUTE, limit=2, lease_for=SECOND)
    trial.check.equal(len(lapsed), 2, "due jobs are claimed")

    demands = (Demand((queues[0],), 1), Demand((queues[1], queues[2]), 8))
    claimed = await acts.take(storage, evolve(claim_of(), demands=demands))

    counts = {queue: sum(job.queue_id == queue for job in claimed) for queue in queues}
    trial.check.equal(
        counts, dict(zip(queues, [1, 4, 4, 0], strict=True)), "each demand takes from its own queues, up to its limit"
    )


@rule("R23")
async def a_claim_of_many_queues_asks_for_all_of_them(trial: Trial) -> None:
    """However many queues a claim asks for, in one demand or in many, it takes the jobs of the last as of the first."""
    storage = await trial.open()
    count = trial.sized("queues of a claim", 1_100, least=120, seconds=0.5)
    queues = [f"one of many {number}" for number in range(count)]
    for demands in ((Demand(tuple(queues), count),), tuple(Demand((queue,), 2) for queue in queues)):
        jobs = [trial.job(queue) for queue in (queues[0], queues[count // 2], queues[-1])]
        await storage.store_jobs(jobs)

        taken = await acts.take(storage, evolve(claim_of(), demands=demands))

        about = f"{len(demands)} demands of {len(demands[0].queue_ids)} queues each"
        trial.check.counts(ids_of(taken), ids_of(jobs), f"a claim of {about} takes what is due in any of them")


@rule("R23")
async def no_demand_keeps_another_one_from_its_jobs(trial: Trial) -> None:
    """A demand that finds nothing, or wants nothing, ends no claim, wherever it stands and however many there are."""
    storage = await trial.open()
    for is_in_vain in (True, False):
        for place in (0, 3, 6):
            vain, *queues = [trial.queue() for _ in range(7)]
            jobs = [job for queue in queues for job in trial.jobs(2, queue)]
            await storage.store_jobs(jobs if is_in_vain else [*jobs, *trial.jobs(2, vain)])
            demands = [Demand((queue,), 2) for queue in queues]
            demands.insert(place, Demand((vain,), 5 if is_in_vain else 0))

            claimed = await acts.take(storage, evolve(claim_of(), demands=tuple(demands)))

            which = "that finds nothing" if is_in_vain else "with the limit 0"
            trial.check.counts(ids_of(claimed), ids_of(jobs), f"six demands beside one {which} get all of their jobs")


@rule("R24")
async def a_limit_is_honoured(trial: Trial) -> None:
    """A claim takes 0, 1, n or all jobs as it asks; the queues of one demand share its limit."""
    storage = await trial.open()
    for limit, expected in ((0, 0), (1, 1), (2, 2), (5, 5), (9, 9), (10, 9), (1_000_000, 9)):
        one, several = trial.queue(), [trial.queue() for _ in range(3)]
        await storage.store_jobs([*trial.jobs(9, one), *(trial.job(several[n % 3]) for n in range(9))])

        claimed = await acts.take(storage, claim_of(one, limit=limit))
        shared = await acts.take(storage, claim_of(*several, limit=limit))

        trial.check.equal(len(claimed), expected, f"a claim with the limit {limit} of 9 jobs takes {expected}")
        trial.check.equal(
            len(shared), expected, f"three queues with 3 jobs each, which share the limit {limit}, give {expected}"
        )


@rule("R24")
async def no_single_answer_exceeds_a_limit(trial: Trial) -> None:
    """Each demand of a claim has its own limit; lapsed leases count, too, and a limit of 0 takes nothing."""
    storage = await trial.open()
    queues = [trial.queue() for _ in range(3)]
    await storage.store_jobs([job for queue in queues for job in trial.jobs(6, queue, execute_after=T0 - MINUTE)])
    for queue in queues:
        await acts.claim(storage, queue, now=T0 - MINUTE, limit=3, lease_for=SECOND)

    demands = tuple(Demand((queue,), limit) for queue, limit in zip(queues, (0, 2, 4), strict=True))
    claimed = (await storage.claim_jobs(evolve(claim_of(), demands=demands))).jobs

    for demand in demands:
        count = sum(job.queue_id in demand.queue_ids for job in claimed)
        trial.check.true(
            count <= demand.limit, "no demand gets more than its limit", expected=f"at most {demand.limit}", seen=count
        )


@rule("R24")
async def nothing_due_is_an_empty_answer(trial: Trial) -> None:
    """Where nothing is due a claim answers at once, with nothing: in an empty queue, before a time, under leases."""
    storage = await trial.open()
    later, held = trial.job(trial.queue(), execute_after=T0 + HOUR), await trial.started(storage)
    await storage.store_jobs([later])
    for queue in (trial.queue(), later.queue_id, held.queue_id):
        claimed = await trial.check.answers(
            storage.claim_jobs(claim_of(queue, limit=5)),
            "a claim with nothing due answers at once",
            within=timedelta(seconds=3),
        )
        trial.check.equal((claimed.jobs, claimed.unreadable), ((), ()), "a claim with nothing due takes nothing")
