"""Section A: what is stored comes back, once, and at once to everybody."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve
from hypothesis import strategies as st

from pannier.claims import Demand
from pannier.errors import UnstorableError
from pannier.inspection import JobFilter, Requeue
from pannier.records import Cancellation, JobRecord, JobStatus, Json, Lease, Payload, StoredResult
from pannier.settlements import Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import (
    LEASE,
    MINUTE,
    SECOND,
    T0,
    WORKER,
    claim_of,
    error_at,
    failed,
    full_job,
    ids_of,
    retry,
)
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of, results_of

DATA: Final[Sequence[Json | bytes]] = (
    None, False, True, 0, -1, 1.0, -0.0, "", "null", " ", [], {}, [[]], [None], {"": None}, {"a": []}, "ä\U0001f600",
    b"", b"\0\xff", b"{}",
)  # fmt: skip
"""Payloads that are easily taken for one another."""


def as_claimed(job: JobRecord, *, worker: str = WORKER, ends: timedelta = LEASE) -> JobRecord:
    """Return the new *job* as the first claim at its due time gives it."""
    return evolve(
        job,
        status=JobStatus.RUNNING,
        attempt=1,
        fence=1,
        worker_id=worker,
        dequeue_after=job.execute_after + ends,
    )


async def come_back(trial: Trial, storage: JobStorageProvider, jobs: Sequence[JobRecord], promise: str) -> None:
    """Store *jobs*, which are all due at T0, and compare each with what a look and a claim give."""
    await storage.store_jobs(jobs)
    for job, seen in zip(jobs, await trial.read(storage, *jobs), strict=True):
        trial.check.equal(seen, job, f"{promise}, by get_job")
    claimed = {job.tracking_id: job for job in await trial.drain(storage, *{job.queue_id for job in jobs})}
    trial.check.counts(claimed, ids_of(jobs), "every stored job that is due can be claimed")
    for job in jobs:
        trial.check.equal(claimed[job.tracking_id], as_claimed(job), f"{promise}, by a claim")


@rule("R1")
async def every_field_comes_back(trial: Trial) -> None:
    """A job with every field set that a caller may set comes back equal, by a look and by a claim."""
    storage = await trial.open()
    job = full_job(trial.tracking_id(), trial.queue())

    await storage.store_jobs([job])
    (seen,) = await trial.read(storage, job)
    claimed = await acts.claim(storage, job.queue_id, now=job.execute_after)

    trial.check.equal(seen, job, "every field of a stored job comes back equal by get_job")
    trial.check.equal(claimed, [as_claimed(job)], "every field of a stored job comes back equal by a claim")


@rule("R1")
async def each_field_comes_back_without_the_others(trial: Trial) -> None:
    """A job with one optional field set has that field and no other: None, missing and empty are three things."""
    storage, queue = await trial.open(), trial.queue()
    jobs = [
        trial.job(queue, expire_on=T0 + MINUTE),
        trial.job(queue, priority=100),
        trial.job(queue, priority=-100),
        trial.job(queue, key="k"),
        trial.job(queue, metadata={"": ""}),
        trial.job(queue, metadata={"a": "", "b": "None", "c": "null"}),
        trial.job(queue, metadata={f"name {n}": f"value {n}" for n in range(100)}),
        trial.job(queue, created_at=T0 - 365 * 24 * 60 * MINUTE),
        trial.job(queue, created_at=T0 + MINUTE),
        *(trial.job(queue, command=data) for data in DATA),
        evolve(trial.job(queue), command=Payload("x", encoding="json+zstd+aes:k3")),
    ]

    await come_back(trial, storage, jobs, "each field that is set comes back equal, and no other appears")


def new_jobs(trial: Trial, queue: str) -> st.SearchStrategy[JobRecord]:
    """Give jobs with any values that every storage holds, due at T0, their instants on the storage's grid."""
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, width=64) | text
    trees = st.recursive(
        leaves.filter(lambda leaf: leaf not in (float("inf"), -float("inf"))),
        lambda below: st.lists(below, max_size=4) | st.dictionaries(text, below, max_size=4),
        max_leaves=12,
    )
    spans = st.integers(1, 10**9).map(lambda ticks: ticks * trial.tick)
    return st.builds(
        JobRecord,
        tracking_id=st.builds(trial.tracking_id),
        queue_id=st.just(queue),
        command=st.builds(Payload, trees | st.binary(max_size=40), st.sampled_from(["json", "json+v2", "x"])),
        execute_after=st.just(T0),
        expire_on=st.none() | spans.map(lambda span: T0 + span),
        created_at=spans.map(lambda span: T0 - span),
        priority=st.integers(-100, 100),
        idempotency_key=st.none() | st.builds(lambda: f"key {trial.tracking_id()}"),
        metadata=st.dictionaries(text, text, max_size=3),
    )


@rule("R1")
async def any_values_come_back(trial: Trial) -> None:
    """Jobs with made-up values in all of their fields come back equal."""
    storage = await trial.open()
    jobs = trial.examples(new_jobs(trial, trial.queue()), 60)

    await come_back(trial, storage, jobs, "every value comes back equal")


@rule("R1")
async def only_new_jobs_can_be_stored(trial: Trial) -> None:
    """A job with a field set that only storages write is a ValueError, and nothing of its batch is stored."""
    storage = await trial.open()
    good = trial.job()
    changes: list[dict[str, object]] = [
        {"status": JobStatus.RUNNING},
        {"status": JobStatus.FAILED, "finished_at": T0},
        {"attempt": 1},
        {"lapses": 1},
        {"fence": 1},
        {"dequeue_after": T0 + SECOND},
        {"worker_id": WORKER},
        {"progress": Payload(None)},
        {"result": Payload(None)},
        {"errors": (error_at(),)},
    ]
    for change in changes:
        bad = evolve(trial.job(), **change)  # type: ignore[arg-type]  # a mapping of fields

        await trial.check.raises(ValueError, storage.store_jobs([good, bad]), f"a job with {change} is not new")

        seen = [await storage.get_job(job.tracking_id) for job in (good, bad)]
        trial.check.equal(seen, [None, None], "nothing of a batch with a job that is not new is stored")


@rule("R2")
async def a_job_with_only_what_it_must_have_gets_the_defaults(trial: Trial) -> None:
    """What the caller does not say has the documented default, also when the job is due later than it was made."""
    storage = await trial.open()
    for starts in (T0, T0 - MINUTE, T0 + MINUTE, T0 + trial.tick):
        job = JobRecord(
            tracking_id=trial.tracking_id(),
            queue_id=trial.queue(),
            command=Payload({}),
            execute_after=starts,
            expire_on=None,
            created_at=T0 + SECOND,
        )

        await storage.store_jobs([job])

        (seen,) = await trial.read(storage, job)
        written = {
            "status": seen.status, "attempt": seen.attempt, "lapses": seen.lapses, "fence": seen.fence,
            "priority": seen.priority, "dequeue_after": seen.dequeue_after, "worker_id": seen.worker_id,
            "idempotency_key": seen.idempotency_key, "metadata": dict(seen.metadata), "progress": seen.progress,
            "result": seen.result, "errors": seen.errors, "finished_at": seen.finished_at,
        }  # fmt: skip
        defaults = {
            "status": JobStatus.PENDING, "attempt": 0, "lapses": 0, "fence": 0, "priority": 0, "dequeue_after": starts,
            "worker_id": None, "idempotency_key": None, "metadata": {}, "progress": None, "result": None, "errors": (),
            "finished_at": None,
        }  # fmt: skip
        trial.check.equal(written, defaults, "a new job has the documented defaults, dequeue_after = execute_after")
        claimed = await acts.claim(storage, job.queue_id, now=starts)
        trial.check.equal(claimed, [as_claimed(job)], "a claim gives the same defaults")


def spoil(job: JobRecord | None) -> None:
    """Change everything in *job* that can be changed in place."""
    assert job is not None
    payloads = [payload for payload in (job.command, job.progress, job.result) if payload is not None]
    for tree in [payload.data for payload in payloads]:
        if isinstance(tree, dict):
            for below in tree.values():
                if isinstance(below, list):
                    below.append("spoilt")
            tree["spoilt"] = True
    if isinstance(job.metadata, dict):
        job.metadata["spoilt"] = "yes"


def tree() -> dict[str, Json]:
    """Return a payload that can be changed in place, at two depths."""
    return {"list": [1, 2], "n": 1}


@rule("R3")
async def nothing_is_shared_with_the_caller(trial: Trial) -> None:
    """Changing what was stored, or what came back from a look, a claim or a duplicate, changes nothing stored."""
    storage = await trial.open()
    job = trial.job(trial.queue(), command=tree(), metadata={"a": "b"}, key="k")
    pristine = trial.job(job.queue_id, command=tree(), metadata={"a": "b"}, key="k")
    expected = evolve(pristine, tracking_id=job.tracking_id)

    await storage.store_jobs([job])
    spoil(job)
    trial.check.equal((await trial.read(storage, job))[0], expected, "changing a job after storing it changes nothing")

    spoil(await storage.get_job(job.tracking_id))
    trial.check.equal((await trial.read(storage, job))[0], expected, "changing what get_job gave changes nothing")

    (claimed,) = await acts.claim(storage, job.queue_id)
    spoil(claimed)
    trial.check.equal(
        (await trial.read(storage, job))[0], as_claimed(expected), "changing what a claim gave changes nothing"
    )
    (again,) = await acts.claim(storage, job.queue_id, now=T0 + LEASE)
    trial.check.equal(again.command, expected.command, "the next claim gives the command as it was stored")


@rule("R3", needs=frozenset({Need.RESULTS}))
async def no_result_is_shared_with_the_caller(trial: Trial) -> None:
    """Changing a result or progress that was stored, or what came back of one, changes nothing stored."""
    storage = await trial.open()
    results = results_of(storage)
    job = await trial.started(storage)
    progress, result = Payload(tree()), Payload(tree())

    async def kept() -> StoredResult:
        found = await results.get_job_result(job.tracking_id)
        assert found is not None
        return found

    await results.store_progress(job.lease, progress)
    spoil(evolve(job, progress=progress))
    spoil(await storage.get_job(job.tracking_id))
    trial.check.equal((await kept()).progress, Payload(tree()), "changing stored progress changes nothing")
    spoil(evolve(job, progress=(await kept()).progress))
    trial.check.equal((await kept()).progress, Payload(tree()), "changing progress that came back changes nothing")

    await storage.settle_jobs([Settlement(job.lease, Succeeded(result))], now=T0)
    spoil(evolve(job, result=result))
    spoil(await storage.get_job(job.tracking_id))
    trial.check.equal((await kept()).result, Payload(tree()), "changing a stored result changes nothing")
    spoil(evolve(job, result=(await kept()).result))
    trial.check.equal((await kept()).result, Payload(tree()), "changing a result that came back changes nothing")


@rule("R3", needs=frozenset({Need.INSPECT}))
async def no_listed_job_is_shared_with_the_caller(trial: Trial) -> None:
    """Changing a job that was listed changes nothing stored."""
    storage = await trial.open()
    job = trial.job(trial.queue(), command=tree(), metadata={"a": "b"})
    expected = evolve(job, command=Payload(tree()))
    await storage.store_jobs([job])

    page = await inspector_of(storage).find_jobs(JobFilter())
    spoil(page.jobs[0])

    trial.check.equal((await trial.read(storage, job))[0], expected, "changing what find_jobs gave changes nothing")


@rule("R4")
async def each_change_is_seen_by_other_instances_at_once(trial: Trial) -> None:
    """Whatever one instance has answered, another one reads, claims and refuses by it at once, on a thread too."""
    one, two = await trial.open(), await trial.open()
    thread = await trial.open_on_thread()
    job = trial.job(trial.queue(), key="k")

    async def both_see(status: JobStatus | None, after: str) -> None:
        seen = [await two.get_job(job.tracking_id), await thread.run(lambda other: other.get_job(job.tracking_id))]
        trial.check.equal(
            [None if found is None else found.status for found in seen],
            [status, status],
            f"what {after} did is seen by other instances at once",
        )

    await both_see(None, "nothing")
    await one.store_jobs([job])
    await both_see(JobStatus.PENDING, "store_jobs")
    again = await two.store_jobs([evolve(job, tracking_id=trial.tracking_id())])
    trial.check.equal(again, [job.tracking_id], "a key that one instance has stored stands for another at once")

    (first,) = await acts.claim(one, job.queue_id)
    await both_see(JobStatus.RUNNING, "claim_jobs")
    for outcome in (Release(), retry(T0), failed(), Succeeded()):
        other = await thread.run(lambda other: acts.claim(other, job.queue_id))
        trial.check.equal(other, [], "what one instance has leased another one can't claim")
        await one.settle_jobs([Settlement(first.lease, outcome)], now=T0)
        waits = isinstance(outcome, Release) or type(outcome).__name__ == "Retry"
        await both_see(JobStatus.PENDING if waits else JobStatus.FAILED, "settle_jobs")
        if not waits:
            break
        (first,) = await acts.claim(two, job.queue_id)
        renewed = await one.renew_leases([first.lease], now=T0, lease_for=2 * LEASE)
        trial.check.equal(renewed, frozenset(), "a lease that one instance has given another one can renew")
        seen = await two.get_job(job.tracking_id)
        trial.check.equal(seen and seen.dequeue_after, T0 + 2 * LEASE, "a renewal is seen by other instances at once")

    await acts.purge(one, JobStatus.FAILED, now=T0)
    await both_see(None, "purge_stale_jobs")
    fresh = trial.job(job.queue_id, key="k")
    standing = await two.store_jobs([fresh])
    trial.check.equal(standing, [fresh.tracking_id], "a key that one instance has freed is free for another at once")


@rule("R4")
async def a_cancel_is_seen_by_other_instances_at_once(trial: Trial) -> None:
    """A job that one instance has cancelled no other one can claim or settle."""
    one, two = await trial.open(), await trial.open()
    running = await trial.started(one)
    waiting = trial.job(trial.queue())
    await one.store_jobs([waiting])

    await one.cancel_job(running.tracking_id, now=T0)
    await one.cancel_job(waiting.tracking_id, now=T0)

    seen = [job.status for job in await trial.read(two, running, waiting)]
    trial.check.equal(seen, [JobStatus.CANCELLED] * 2, "a cancel is seen by other instances at once")
    trial.check.equal(await acts.claim(two, waiting.queue_id), [], "what one instance has cancelled no other can claim")
    refused = await two.settle_jobs([Settlement(running.lease, Succeeded())], now=T0)
    trial.check.equal(refused, frozenset([running.lease]), "what one instance has cancelled no other can settle")


@rule("R4")
async def what_was_found_before_is_no_answer_now(trial: Trial) -> None:
    """An instance that has found nothing due, or a finished job, finds what others have changed since."""
    one, two = await trial.open(), await trial.open()
    queue, far = trial.queue(), T0 + 60 * MINUTE
    await one.store_jobs([trial.job(queue, execute_after=far)])

    async def nothing_is_due(now: datetime) -> None:
        for _ in range(2):
            trial.check.equal(await acts.claim(one, queue, now=now, limit=9), [], "what is not due is not claimed")

    async def is_due(job: JobRecord, after: str, now: datetime) -> JobRecord:
        taken = await acts.claim(one, queue, now=now, limit=9)
        promise = f"an instance that found nothing due claims what another one made due by {after}"
        trial.check.equal(ids_of(taken), [job.tracking_id], promise)
        return taken[0]

    await nothing_is_due(T0)
    job = trial.job(queue)
    await two.store_jobs([job])
    held = await is_due(job, "storing it", T0)
    for outcome in (Release(), retry(T0)):
        await nothing_is_due(T0)
        await two.settle_jobs([Settlement(held.lease, outcome)], now=T0)
        held = await is_due(job, f"settling it as {type(outcome).__name__}", T0)
    await nothing_is_due(T0 + SECOND)
    await two.renew_leases([held.lease], now=T0, lease_for=2 * SECOND)
    held = await is_due(job, "making its lease shorter", T0 + 2 * SECOND)

    await two.settle_jobs([Settlement(held.lease, failed())], now=T0)
    for _ in range(2):
        (seen,) = await trial.read(one, job)
        trial.check.equal(seen.status, JobStatus.FAILED, "a job that another instance has settled")
    await acts.purge(two, JobStatus.FAILED, now=T0, queue_ids=frozenset({queue}))
    trial.check.equal(await one.get_job(job.tracking_id), None, "a finished job that another instance has purged")


@rule("R4", needs=frozenset({Need.RESULTS, Need.INSPECT}))
async def progress_and_requeue_are_seen_by_other_instances_at_once(trial: Trial) -> None:
    """Progress, results, counts and requeues of one instance are seen by others at once, whatever they saw before."""
    one, two = await trial.open(), await trial.open()
    job = await trial.started(one)

    async def both_see(status: JobStatus, after: str) -> None:
        for instance in (one, two):
            found = await results_of(instance).get_job_result(job.tracking_id)
            counts = await inspector_of(instance).count_jobs(JobFilter(queue_ids=frozenset({job.queue_id})))
            counted = {pair: count for pair, count in counts.items() if count}
            trial.check.equal(
                (found and found.status, counted),
                (status, {(job.queue_id, status): 1}),
                f"the result and the counts after {after} are seen by all instances at once",
            )

    await results_of(one).store_progress(job.lease, Payload("half"))
    seen = await results_of(two).get_job_result(job.tracking_id)
    trial.check.equal(seen and seen.progress, Payload("half"), "progress is seen by other instances at once")

    await both_see(JobStatus.RUNNING, "a claim")
    await acts.must_settle(trial.check, one, job, failed())
    await both_see(JobStatus.FAILED, "a settlement")
    answer = await inspector_of(two).requeue_job(job.tracking_id, now=T0, expire_on=None)
    trial.check.equal(answer, Requeue.REQUEUED, "a job that one instance has settled another one can requeue")
    await both_see(JobStatus.PENDING, "a requeue")
    (again,) = await trial.read(one, job)
    trial.check.equal(again.status, JobStatus.PENDING, "a requeue is seen by other instances at once")


@rule("R5")
async def duplicates_do_not_fail_a_batch(trial: Trial) -> None:
    """Each position of a batch gets the id that stands: by tracking id, then by key, earlier positions included."""
    storage, queue = await trial.open(), trial.queue()
    known, keyed = trial.job(queue), trial.job(queue, key="a")
    await storage.store_jobs([known, keyed])
    fresh = trial.jobs(4, queue)
    first_b, later_b = trial.job(queue, key="b"), trial.job(queue, key="b")
    # Its id is that of `keyed`, its key that of `first_b`: the id decides.
    both = evolve(trial.job(queue, key="b"), tracking_id=keyed.tracking_id)
    batch = [
        fresh[0],
        evolve(known, command=Payload("other")),
        trial.job(queue, key="a"),
        first_b,
        fresh[1],
        later_b,
        evolve(fresh[1], command=Payload("other")),
        both,
        trial.job(queue, key="b"),
        evolve(fresh[2], idempotency_key="c"),
        trial.job(queue, key="c"),
        fresh[3],
    ]
    standing = [
        fresh[0], known, keyed, first_b, fresh[1], first_b, fresh[1], keyed, first_b, fresh[2], fresh[2], fresh[3]
    ]  # fmt: skip

    answer = await trial.check.answers(storage.store_jobs(batch), "duplicates don't fail a batch")

    trial.check.equal(answer, ids_of(standing), "each position of a batch gets the id that stands")
    kept = await trial.drain(storage, queue)
    trial.check.counts(ids_of(kept), set(ids_of(standing)), "a batch stores each job that is new, once")
    commands = {job.tracking_id: job.command for job in kept}
    for job in (known, fresh[1]):
        trial.check.equal(commands[job.tracking_id], job.command, "a duplicate in a batch changes nothing")


def hard_to_store(trial: Trial, queue: str) -> list[JobRecord]:
    """Return jobs that some storages can't hold; whoever can must keep them exactly."""
    deep: Json = []
    for _ in range(5_000):
        deep = [deep]
    return [
        trial.job(queue, command=deep),
        trial.job(queue, command="a lone surrogate: \ud800"),
        trial.job(queue, command=10**400),
        trial.job(queue, key="NUL: \0"),
        trial.job(queue, metadata={"a": "\udfff"}),
    ]


@rule("R5")
async def a_job_that_cannot_be_stored_is_named(trial: Trial) -> None:
    """A job that the storage can't hold raises UnstorableError naming it; its batch can be stored without it."""
    storage = await trial.open()
    for bad in hard_to_store(trial, trial.queue()):
        queue = trial.queue()
        batch = trial.jobs(7, queue)
        try:
            standing = await storage.store_jobs([*batch[:3], bad, *batch[3:]])
        except UnstorableError as error:
            trial.check.equal(error.tracking_id, bad.tracking_id, "UnstorableError names the job that can't be held")
            stored = [job for job in (*batch, bad) if await storage.get_job(job.tracking_id) is not None]
            trial.check.equal(stored, [], "where a job of a batch can't be held, nothing of the batch is stored")
            standing = await storage.store_jobs(batch)
            trial.check.equal(standing, ids_of(batch), "the batch can be stored without the job that can't be held")
        else:
            trial.check.equal(len(standing), 8, "what is not refused is stored")
            (kept,) = await trial.read(storage, bad)
            trial.check.equal(kept.command, bad.command, "a command that is not refused is kept exactly")
            trial.check.equal(kept.metadata, bad.metadata, "metadata that is not refused is kept exactly")
            trial.check.equal(kept.idempotency_key, bad.idempotency_key, "a key that is not refused is kept exactly")
        trial.check.counts(ids_of(await trial.drain(storage, queue)), ids_of(batch), "the good jobs are stored once")


@rule("R5")
async def a_batch_that_fails_can_be_repeated(trial: Trial) -> None:
    """A batch with a bad job stores nothing, and what was stored before stays as it was."""
    storage, queue = await trial.open(), trial.queue()
    before, batch = trial.jobs(2, queue), trial.jobs(6, queue)
    await storage.store_jobs(before)
    bad = evolve(trial.job(queue), attempt=1)

    await trial.check.raises(ValueError, storage.store_jobs([*batch, bad]), "a job that is not new fails its batch")
    stored = [job for job in batch if await storage.get_job(job.tracking_id) is not None]
    trial.check.equal(stored, [], "a batch that is refused has stored nothing")

    standing = await storage.store_jobs([*before, *batch])
    trial.check.equal(standing, ids_of([*before, *batch]), "the rest of a refused batch can be stored")
    claimed = await trial.drain(storage, queue)
    trial.check.counts(ids_of(claimed), ids_of([*before, *batch]), "each job is stored once")


@rule("R5")
async def a_large_batch_with_a_bad_end_stores_nothing(trial: Trial) -> None:
    """A job that is not new, or can't be held, ends a batch past the usual limits of a statement: nothing is stored."""
    storage = await trial.open()
    size = trial.sized("jobs of the largest bad batch", 1_200, least=1_001, seconds=1)
    not_new = evolve(trial.job(), attempt=1)
    bad = [(not_new, ValueError), *((job, UnstorableError) for job in await refused_jobs(trial, storage))]
    for job, error in bad[:2]:
        queue = trial.queue()

        call = storage.store_jobs([*trial.jobs(size, queue), evolve(job, queue_id=queue)])
        await trial.check.raises(error, call, f"a job that is {'not new' if job is not_new else 'refused alone'}, last")

        claimed = await acts.claimed_ids(storage, queue, limit=size)
        trial.check.true(
            not claimed,
            f"store_jobs of {size + 1} jobs, whose last is refused by {error.__name__}, has stored nothing",
            expected="no job of the batch",
            seen=f"{len(claimed)} jobs can be claimed, as many as came before it in an earlier piece?",
        )


async def refused_jobs(trial: Trial, storage: JobStorageProvider) -> list[JobRecord]:
    """Return jobs that the storage can't hold, and says so."""
    refused: list[JobRecord] = []
    for job in hard_to_store(trial, trial.queue()):
        try:
            await storage.store_jobs([job])
        except UnstorableError:
            refused.append(job)
    return refused


@rule("R5", needs=frozenset({Need.DURABLE}))
async def a_batch_that_is_killed_can_be_repeated(trial: Trial) -> None:
    """Killed at any line of store_jobs, a batch is stored whole, in part or not at all; repeating it does the rest."""
    storage, stepper = await trial.open(), await trial.open_stepper()
    queue = trial.queue()
    lines = (await stepper.call(trial.url, "store_jobs", jobs=trial.jobs(3, queue, key=None))).lines
    assert lines is not None
    points = sorted({trial.rng.randrange(lines) for _ in range(trial.scaled(5))})
    for point in points:
        queue = trial.queue()
        jobs = [*trial.jobs(2, queue), trial.job(queue, key="k")]

        await stepper.call(trial.url, "store_jobs", die_at=point, jobs=jobs)

        kept = [job for job in jobs if await storage.get_job(job.tracking_id) is not None]
        if trial.offers(Need.ATOMIC_BATCHES):
            trial.check.true(
                len(kept) in (0, len(jobs)),
                "a batch that is killed is stored whole or not at all",
                expected="0 or 3 jobs",
                seen=f"{len(kept)} after a kill at line {point} of {lines}",
            )
        standing = await storage.store_jobs(jobs)
        trial.check.equal(standing, ids_of(jobs), "a batch that was killed can be repeated")
        trial.check.counts(ids_of(await trial.drain(storage, queue)), ids_of(jobs), "and is then there, once")


@rule("R6", deadline=timedelta(seconds=120))
async def batches_of_any_size_are_stored_whole(trial: Trial) -> None:
    """Batches of 0, 1, 1,000 and 10,000 jobs are stored whole, and answered in order."""
    storage = await trial.open()
    trial.check.equal(await storage.store_jobs([]), [], "a batch of no jobs is answered with no ids")
    largest = trial.sized("jobs of the largest batch", 10_000, least=1_001, seconds=4)
    for size in (1, 2, 1_000, largest):
        queue = trial.queue()
        jobs = trial.jobs(size, queue)

        standing = await storage.store_jobs(jobs)

        trial.check.equal(standing, ids_of(jobs), f"a batch of {size} jobs is answered with their ids in order")
        claimed = await trial.drain(storage, queue, limit=max(size, 100))
        trial.check.counts(ids_of(claimed), ids_of(jobs), f"a batch of {size} jobs is stored whole")


@rule("R6")
async def large_batches_with_keys_are_stored_whole(trial: Trial) -> None:
    """A large batch of jobs with keys, every third of them a duplicate, is stored whole, and answered in order."""
    storage, queue = await trial.open(), trial.queue()
    size = trial.sized("jobs of the largest batch with keys", 3_000, least=1_001, seconds=1)
    jobs = [trial.job(queue, key=f"key {number - (number % 3 == 2)}") for number in range(size)]
    standing = [jobs[number - (number % 3 == 2)].tracking_id for number in range(size)]

    answer = await storage.store_jobs(jobs)

    trial.check.equal(answer, standing, "a large batch with keys is answered with the ids that stand, in order")
    claimed = await trial.drain(storage, queue, limit=size)
    trial.check.counts(ids_of(claimed), set(standing), "a large batch with keys is stored whole")


@rule("R7")
async def a_job_stored_again_is_left_as_it_is(trial: Trial) -> None:
    """A tracking id that is stored stands, unmodified and once, whatever else is stored under it, in every status."""
    storage = await trial.open()
    for status in JobStatus:
        original = full_job(trial.tracking_id(), trial.queue())
        before = await trial.brought_to(storage, status, original, now=original.execute_after)
        repeats = [
            original,
            evolve(original, command=Payload("other"), metadata={}, priority=9),
            evolve(original, idempotency_key="another key", expire_on=None, execute_after=T0, dequeue_after=T0),
            evolve(original, idempotency_key=None, queue_id=trial.queue()),
        ]
        for repeat in repeats:
            standing = await trial.check.answers(
                storage.store_jobs([repeat]), "storing a job again is answered, not raised"
            )
            trial.check.equal(standing, [original.tracking_id], f"a {status} job that is stored again stands")
            (after,) = await trial.read(storage, original)
            trial.check.equal(after, before, f"a {status} job that is stored again is left as it is")
        claimed = await acts.claim(storage, repeats[-1].queue_id, now=T0 + MINUTE)
        trial.check.equal(claimed, [], "a job that is stored again is not stored twice")
        another = trial.job(original.queue_id, key="another key")
        standing = await storage.store_jobs([another])
        trial.check.equal(standing, [another.tracking_id], "a key that came with a repeat only is free")


@rule("R7")
async def a_job_stored_again_runs_once(trial: Trial) -> None:
    """A batch whose acknowledgement was lost is stored again: each job is there once."""
    storage, queue = await trial.open(), trial.queue()
    jobs = [*trial.jobs(3, queue), trial.job(queue, key="k")]

    answers = [await storage.store_jobs(jobs) for _ in range(3)]

    trial.check.equal(answers, [ids_of(jobs)] * 3, "each time the job's own ids are answered")
    trial.check.counts(ids_of(await trial.drain(storage, queue)), ids_of(jobs), "each job is there once")


@rule("R8")
async def unknown_ids_are_answered_not_raised(trial: Trial) -> None:
    """Reading, cancelling, renewing and settling a job that was never stored are answered, and store nothing."""
    storage, check = await trial.open(), trial.check
    known = await trial.started(storage)
    for outcome in (Succeeded(), Succeeded(Payload(1)), failed(), retry(T0 + 9 * SECOND), Release()):
        lease = Lease(trial.tracking_id(), 1)
        settlement = Settlement(lease, outcome)
        promise = "an unknown tracking id is answered, not raised"

        job = await check.answers(storage.get_job(lease.tracking_id), promise)
        cancelled = await check.answers(storage.cancel_job(lease.tracking_id, now=T0), promise)
        lost = await check.answers(storage.renew_leases([lease, known.lease], now=T0, lease_for=LEASE), promise)
        refused = await check.answers(storage.settle_jobs([settlement], now=T0), promise)

        check.equal(job, None, "get_job of an unknown id is None")
        check.equal(cancelled, Cancellation.NOT_FOUND, "cancel_job of an unknown id is NOT_FOUND")
        check.equal(lost, frozenset([lease]), "renew_leases reports the lease of an unknown job as lost")
        check.equal(refused, frozenset([lease]), "settle_jobs refuses the lease of an unknown job")
        check.equal(await storage.get_job(lease.tracking_id), None, "none of this stores anything")


@rule("R8")
async def unknown_queues_and_empty_batches_are_answered_not_raised(trial: Trial) -> None:
    """A claim of a queue that never was, and verbs with nothing to do, are answered with nothing."""
    storage, check = await trial.open(), trial.check
    claim = evolve(claim_of("never"), demands=(Demand(("never", "ever"), 5), Demand(("no",), 0)))

    claimed = await check.answers(storage.claim_jobs(claim), "a claim of unknown queues is answered")
    lost = await check.answers(storage.renew_leases([], now=T0, lease_for=LEASE), "renewing no lease is answered")
    refused = await check.answers(storage.settle_jobs([], now=T0), "settling nothing is answered")
    none = await check.answers(storage.claim_jobs(evolve(claim, demands=())), "a claim without demands is answered")

    check.equal([claimed.jobs, none.jobs], [(), ()], "a claim of nothing takes nothing")
    check.equal([lost, refused], [frozenset[Lease](), frozenset[Lease]()], "nothing is lost or refused of nothing")


@rule("R8", needs=frozenset({Need.RESULTS, Need.INSPECT}))
async def unknown_ids_are_answered_by_the_add_ons_too(trial: Trial) -> None:
    """Progress, results and a requeue of a job that was never stored are answered."""
    storage, check = await trial.open(), trial.check
    lease, promise = Lease(trial.tracking_id(), 1), "an unknown tracking id is answered, not raised"

    is_kept = await check.answers(results_of(storage).store_progress(lease, Payload(1)), promise)
    result = await check.answers(results_of(storage).get_job_result(lease.tracking_id), promise)
    requeued = await check.answers(
        inspector_of(storage).requeue_job(lease.tracking_id, now=T0, expire_on=None), promise
    )

    check.true(not is_kept, "store_progress refuses the lease of an unknown job", expected="False", seen=is_kept)
    check.equal(result, None, "get_job_result of an unknown id is None")
    check.equal(requeued, Requeue.NOT_FOUND, "requeue_job of an unknown id is NOT_FOUND")
    check.equal(await storage.get_job(lease.tracking_id), None, "none of this stores anything")
