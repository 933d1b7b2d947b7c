"""Section D: no job goes to two claimers."""

import asyncio
from datetime import timedelta
from uuid import UUID

from attrs import evolve

from pannier.claims import Claimed
from pannier.inspection import Requeue
from pannier.records import JobRecord, JobStatus, Json, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier_testing import acts, crowds
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, claim_of, failed, full_job, ids_of, retry
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, drained, inspector_of, results_of


@rule("R29")
async def sequential_claims_share_nothing(trial: Trial) -> None:
    """One claim after the other, of one worker or several, on one instance or two: each gets other jobs."""
    one, two = await trial.open(), await trial.open()
    queues = [trial.queue(), trial.queue()]
    stored = [*trial.jobs(30, queues[0]), *trial.jobs(30, queues[1], priority=5)]
    await one.store_jobs(stored)

    taken: list[JobRecord] = []
    for number, limit in enumerate((1, 1, 2, 3, 5, 8, 1, 4)):
        storage, worker = (one, two)[number % 2], f"worker-{number % 3}"
        for asked in (queues, queues[:1], queues[::-1]):
            taken += await acts.claim(storage, *asked, limit=limit, worker=worker, now=T0 + number * SECOND)
    taken += await trial.drain(two, *queues, now=T0 + 9 * SECOND)

    trial.check.counts(ids_of(taken), ids_of(stored), "two sequential claims never return the same job")


@rule("R30")
async def simultaneous_claims_share_out_each_job_once(trial: Trial) -> None:
    """Six claimers on one instance drain a queue: every due job goes to exactly one of them."""
    storage = await trial.open()
    for schedule in trial.schedules(20):
        queue = trial.queue()
        stored = trial.jobs(20, queue)
        await storage.store_jobs(stored)

        claims = [claim_of(queue, limit=5, worker=f"worker-{n}") for n in range(6)]
        batches = await schedule.jittered(*(storage.claim_jobs(claim) for claim in claims))
        rest = await trial.drain(storage, queue)  # contended claims may come back short

        claimed = [job.tracking_id for batch in batches for job in batch.jobs] + [job.tracking_id for job in rest]
        trial.check.counts(
            claimed, (job.tracking_id for job in stored), "every due job goes to exactly one of several claimers"
        )


@rule("R30")
async def simultaneous_claims_share_out_lapsed_leases_once(trial: Trial) -> None:
    """Six claimers take over leases that have lapsed: every job goes to exactly one of them, under a new fence."""
    storage = await trial.open()
    for schedule in trial.schedules(10):
        queue = trial.queue()
        stored = trial.jobs(12, queue)
        await storage.store_jobs(stored)
        await trial.drain(storage, queue, worker="dead")

        now = T0 + LEASE
        claims = [claim_of(queue, limit=4, worker=f"worker-{n}", now=now) for n in range(6)]
        batches = await schedule.jittered(*(storage.claim_jobs(claim) for claim in claims))
        taken = [*(job for batch in batches for job in batch.jobs), *await trial.drain(storage, queue, now=now)]

        trial.check.counts(
            ((job.tracking_id, job.fence) for job in taken),
            ((job.tracking_id, 2) for job in stored),
            "every lapsed lease goes to exactly one of several claimers, under the next fence",
        )


@rule("R31")
async def simultaneous_claims_of_instances_share_out_each_job_once(trial: Trial) -> None:
    """Eight claimers on four instances drain a queue: every due job goes to exactly one of them."""
    instances = [await trial.open() for _ in range(4)]
    for schedule in trial.schedules(12):
        queue = trial.queue()
        stored = trial.jobs(20, queue)
        await instances[0].store_jobs(stored)

        claims = [claim_of(queue, limit=4, worker=f"worker-{n}") for n in range(8)]
        batches = await schedule.jittered(*(instances[n % 4].claim_jobs(claim) for n, claim in enumerate(claims)))
        rest = await trial.drain(instances[3], queue)

        taken = [*(job for batch in batches for job in batch.jobs), *rest]
        trial.check.counts(ids_of(taken), ids_of(stored), "every due job goes to exactly one of several instances")


@rule("R31")
async def claims_on_threads_share_out_each_job_once(trial: Trial) -> None:
    """Four instances, each on a thread of its own, drain a queue: every due job goes to exactly one of them."""
    storage, queue = await trial.open(), trial.queue()
    threads = [await trial.open_on_thread() for _ in range(4)]
    stored = trial.jobs(trial.sized("jobs drained by threads", 200, least=40, seconds=0.3), queue)
    await storage.store_jobs(stored)

    async def drained_by(worker: int) -> list[JobRecord]:
        claim = claim_of(queue, limit=3, worker=f"worker-{worker}")
        return await threads[worker].run(lambda other: drained(other.claim_jobs, claim, trial.check))

    batches = await asyncio.gather(*map(drained_by, range(4)))

    taken = [job for batch in batches for job in batch]
    trial.check.counts(ids_of(taken), ids_of(stored), "every due job goes to exactly one of several threads")


@rule("R32", deadline=timedelta(seconds=120))
async def claims_of_processes_share_out_each_job_once(trial: Trial) -> None:
    """Four processes that start together drain 200 jobs, three times: every due job goes to exactly one of them."""
    storage, nursery = await trial.open(), await trial.open_nursery()
    for _ in range(trial.scaled(3)):
        queue = trial.queue()
        stored = trial.jobs(trial.sized("jobs drained by processes", 200, least=80, seconds=1), queue)
        await storage.store_jobs(stored)

        parts: list[dict[str, Json]] = [{"queue": queue, "worker": f"worker-{n}", "limit": 3} for n in range(4)]
        batches = await trial.in_processes(nursery, crowds.drain, parts)
        rest = await trial.drain(storage, queue)

        taken = [*(UUID(tracking_id) for batch in batches for tracking_id in batch), *ids_of(rest)]
        trial.check.counts(taken, ids_of(stored), "every due job goes to exactly one of several processes")


@rule("R33")
async def a_claim_writes_what_it_says_and_nothing_else(trial: Trial) -> None:
    """A claim sets status, fence, attempt, worker and lease, on the returned and the stored record, and no more."""
    storage, queue = await trial.open(), trial.queue()
    jobs = [evolve(full_job(trial.tracking_id(), queue), priority=n) for n in (3, 2, 1)]
    others = [
        evolve(full_job(trial.tracking_id(), trial.queue()), priority=100),
        trial.job(queue, execute_after=T0 + 2 * MINUTE, priority=100),
        await trial.brought_to(storage, JobStatus.RUNNING),
        await trial.brought_to(storage, JobStatus.FAILED),
        await trial.brought_to(storage, JobStatus.CANCELLED, trial.job(queue, priority=100)),
    ]
    await storage.store_jobs([*jobs, *others[:2]])
    before = await trial.read(storage, *others, jobs[2])

    now, lease_for = T0 + 5 * SECOND, 17 * SECOND
    claimed = await acts.claim(storage, queue, limit=2, now=now, worker="worker-7", lease_for=lease_for)

    trial.check.counts(ids_of(claimed), ids_of(jobs[:2]), "the first two jobs in order are claimed")
    for job in jobs[:2]:
        expected = evolve(
            job,
            status=JobStatus.RUNNING,
            fence=1,
            attempt=1,
            worker_id="worker-7",
            dequeue_after=now + lease_for,
        )
        (returned,) = (other for other in claimed if other.tracking_id == job.tracking_id)
        trial.check.equal(returned, expected, "a claim returns the job as it has written it")
        trial.check.equal((await trial.read(storage, job))[0], expected, "a claim stores what it returns")
    trial.check.equal(await trial.read(storage, *others, jobs[2]), before, "a claim touches no other record")


@rule("R33")
async def a_claim_marks_nothing_but_what_has_expired(trial: Trial) -> None:
    """A job that has expired is left as it is by a claim, or marked EXPIRED as a purge would."""
    storage, queue = await trial.open(), trial.queue()
    expired = trial.job(queue, expire_on=T0 + SECOND, priority=9, key="k", metadata={"a": "b"})
    held = trial.job(queue, expire_on=T0 + 2 * SECOND, priority=10)
    due = trial.job(queue)
    await storage.store_jobs([expired, held, due])
    (first,) = await acts.claim(storage, queue, limit=1, lease_for=MINUTE)
    trial.check.equal(first.tracking_id, held.tracking_id, "the job of the highest priority is claimed")

    now = T0 + 3 * SECOND
    taken = await acts.take(storage, claim_of(queue, limit=1, now=now))

    trial.check.equal(ids_of(taken), [due.tracking_id], "what is due is claimed")
    seen, running = await trial.read(storage, expired, held)
    marked = evolve(expired, status=JobStatus.EXPIRED, finished_at=now)
    trial.check.equal(
        seen, expired if seen.status is JobStatus.PENDING else marked, "a claim marks what has expired, or leaves it"
    )
    trial.check.equal(running, first, "a claim does not touch a live lease, even of a job past its expiry")


@rule("R34")
async def every_claim_has_a_fence_of_its_own(trial: Trial) -> None:
    """Each claim of a job raises its fence by one, whatever ended the claim before: release, retry, lapse."""
    storage = await trial.open()
    for pattern in range(3):
        job = await trial.started(storage)
        fences, now = [job.fence], T0
        endings: list[Outcome | None] = [Release(), Release(), retry(T0), None, Release(), None, None, retry(T0)]
        for ending in endings[pattern:] + endings[:pattern]:
            if ending is None:
                now += LEASE
            else:
                await acts.must_settle(trial.check, storage, job, ending, now=now)
                (waiting,) = await trial.read(storage, job)
                trial.check.equal(waiting.fence, fences[-1], "no settlement changes the fence")
            claimed = await acts.claim(storage, job.queue_id, now=now, worker=f"worker-{len(fences) % 2}")
            trial.check.equal(ids_of(claimed), [job.tracking_id], "the job is claimed again")
            (job,) = claimed
            fences.append(job.fence)
        trial.check.equal(fences, list(range(1, len(fences) + 1)), "every claim has a fence never used before")


@rule("R34", needs=frozenset({Need.INSPECT}))
async def a_requeue_lowers_no_fence(trial: Trial) -> None:
    """A requeue raises the fence, and so does the claim after it."""
    storage, fences = await trial.open(), list[int]()
    job = await trial.started(storage)
    for number in range(3):
        fences.append(job.fence)
        await acts.must_settle(trial.check, storage, job, failed(), now=T0)
        again = await inspector_of(storage).requeue_job(job.tracking_id, now=T0, expire_on=None)
        trial.check.equal(again, Requeue.REQUEUED, f"a failed job is requeued for the time {number + 1}")
        fences.append((await trial.read(storage, job))[0].fence)
        (job,) = await acts.claim(storage, job.queue_id)
    trial.check.equal(fences, [1, 2, 3, 4, 5, 6], "every requeue and every claim has a fence never used before")


@rule("R35")
async def contention_of_instances_surfaces_no_error(trial: Trial) -> None:
    """Instances that store, claim, renew and settle at the same time see no error, and the backlog is drained."""
    instances = [await trial.open() for _ in range(3)]
    thread = await trial.open_on_thread()
    for schedule in trial.schedules(6):
        queue = trial.queue()
        backlog = trial.jobs(10, queue)
        await instances[0].store_jobs(backlog)
        ids = [[str(trial.tracking_id()) for _ in range(3)] for _ in range(4)]
        promise = "under contention no error surfaces, and the work comes to an end"

        calls = [crowds.work(storage, queue=queue, worker=f"w{n}", ids=ids[n]) for n, storage in enumerate(instances)]
        aside = thread.run(lambda other: crowds.work(other, queue=queue, worker="w3", ids=ids[3]))  # noqa: B023  # awaited here
        done = await schedule.jittered(*(trial.check.answers(call, promise) for call in (*calls, aside)))

        rest = await trial.drain(instances[0], queue)
        settled = [tracking_id for batch in done for tracking_id in batch] + [str(job.tracking_id) for job in rest]
        stored = [tracking_id for batch in ids for tracking_id in batch] + list(map(str, ids_of(backlog)))
        trial.check.counts(map(str, settled), stored, "under contention the backlog is fully drained")


@rule("R35", needs=frozenset({Need.SHARED}), deadline=timedelta(seconds=120))
async def contention_of_processes_surfaces_no_error(trial: Trial) -> None:
    """Processes that store, claim, renew and settle at the same time see no error, and the backlog is drained."""
    storage, queue, nursery = await trial.open(), trial.queue(), await trial.open_nursery()
    count = trial.sized("jobs of each process", 30, least=10, seconds=0.2)
    ids: list[list[Json]] = [[str(trial.tracking_id()) for _ in range(count)] for _ in range(4)]

    parts: list[dict[str, Json]] = [
        {"queue": queue, "worker": f"worker-{n}", "ids": part} for n, part in enumerate(ids)
    ]
    done = await trial.check.answers(
        trial.in_processes(nursery, crowds.work, parts),
        "under contention of processes no error surfaces",
        within=timedelta(seconds=60),
    )

    rest = await trial.drain(storage, queue)
    settled = [tracking_id for batch in done for tracking_id in batch] + [str(job.tracking_id) for job in rest]
    stored = [str(tracking_id) for batch in ids for tracking_id in batch]
    trial.check.counts(settled, stored, "under contention the backlog is fully drained")


@rule("R36")
async def a_cancelled_claim_loses_no_job(trial: Trial) -> None:
    """A claim that is cancelled at any of its awaits leaves its jobs claimable, now or after one lease."""
    storage = await trial.open()
    queue = trial.queue()
    promise = "the instance works on after a claim was cancelled"
    stored = trial.jobs(3, queue)
    await storage.store_jobs(stored)

    async def claim() -> Claimed:
        return await storage.claim_jobs(claim_of(queue, limit=2))

    async for cut in trial.cancelled_everywhere(claim):
        about = f"after a cancel at its await {cut.point} ({cut.moment})"
        answered = [] if cut.answer is None else [*cut.answer.jobs]
        now = await trial.check.answers(trial.drain(storage, queue), promise, within=timedelta(seconds=10))
        later = await trial.check.answers(
            trial.drain(storage, queue, now=T0 + LEASE), promise, within=timedelta(seconds=10)
        )
        trial.check.counts(ids_of([*answered, *now]), set(ids_of([*answered, *now])), f"no job is given twice, {about}")
        trial.check.counts(ids_of(later), ids_of(stored), f"all jobs are claimable after one lease, {about}")
        trial.check.true(
            max(job.fence for job in later) <= 3,
            f"no more than one lost claim, {about}",
            expected="fence <= 3",
            seen=later,
        )
        ended = await storage.settle_jobs([Settlement(job.lease, Succeeded(None)) for job in later], now=T0 + LEASE)
        trial.check.equal(ended, frozenset(), f"they can be settled, {about}")
        queue = trial.queue()
        stored = trial.jobs(3, queue)
        await trial.check.answers(storage.store_jobs(stored), promise, within=timedelta(seconds=10))


@rule("R36", needs=frozenset({Need.RESULTS}))
async def a_cancelled_claim_leaves_every_verb_working(trial: Trial) -> None:
    """After a claim was cancelled at any of its awaits, every verb of the same instance answers."""
    storage = await trial.open()
    async for _ in trial.cancelled_everywhere(lambda: storage.claim_jobs(claim_of(limit=2))):
        promise, soon = "the instance works on after a claim was cancelled", timedelta(seconds=10)
        job = await trial.check.answers(trial.started(storage), promise, within=soon)
        await trial.check.answers(results_of(storage).store_progress(job.lease, Payload(1)), promise, within=soon)
        await trial.check.answers(acts.renew(storage, job), promise, within=soon)
        await trial.check.answers(acts.settle(storage, job, Succeeded()), promise, within=soon)
        await trial.check.answers(acts.purge(storage, JobStatus.SUCCEEDED, now=T0), promise, within=soon)
        gone = await trial.check.answers(storage.get_job(job.tracking_id), promise, within=soon)
        trial.check.equal(gone, None, promise)
