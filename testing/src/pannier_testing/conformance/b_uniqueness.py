"""Section B: one job for a key, as long as it is kept."""

import asyncio
import unicodedata
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from attrs import evolve
from hypothesis import strategies as st

from pannier.errors import UnstorableError
from pannier.inspection import Requeue
from pannier.records import JobRecord, JobStatus, Json, Payload
from pannier.settlements import Release, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts, crowds
from pannier_testing.builders import LEASE, MINUTE, QUEUE, SECOND, T0, failed, full_job, ids_of, retry
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of

ALIKE: Final = (
    "key", "Key", "KEY", "key ", " key", "key\t", "key\n", "k\u200bey", "ke", "keyy", "k%y", "k_y", "k*y",
    unicodedata.normalize("NFC", "ole\u0301"), unicodedata.normalize("NFD", "ol\u00e9"), "ole", "OL\u00c9",
    "stra\u00dfe", "strasse", "STRA\u1e9eE", "\ufb01n", "fin", "\u0130", "i\u0307", "i", "\u0131", "I", "\u212a", "k",
    "1", "01", "1.0", "+1", "null", "None", "true", "{}", "$key", ".key", "a.b", "key'", 'key"', "key\\", "key;--",
    "x" * 254 + "a", "x" * 254 + "b", "x" * 255, "x" * 256, "x" * 599 + "a", "x" * 599 + "b", "y" * 5000 + "a",
    "y" * 5000 + "b", "k\0", "k\0ey", "k\0ay", "\u00e9" * 300 + "a", "\u00e9" * 300 + "b", "\U0001f600", "\U0001f601",
)  # fmt: skip
"""Keys that storages are tempted to take for one another."""


@rule("R10")
async def a_key_stored_again_gives_the_first_job(trial: Trial) -> None:
    """Whatever is stored with a key that its queue has: the first job's id is answered, and there is one record."""
    storage = await trial.open()
    first = trial.job(trial.queue(), key="order 7")
    trial.check.equal(await storage.store_jobs([first]), [first.tracking_id], "the first job with a key is stored")
    for again in (
        trial.job(first.queue_id, key="order 7"),
        trial.job(first.queue_id, key="order 7", command="other", priority=50),
        trial.job(first.queue_id, key="order 7", execute_after=T0 + MINUTE, expire_on=T0 + 2 * MINUTE),
    ):
        standing = await trial.check.answers(storage.store_jobs([again]), "a duplicate key is answered, not raised")
        trial.check.equal(standing, [first.tracking_id], "a key stored again gives the first job's id")
        trial.check.equal(await storage.get_job(again.tracking_id), None, "the duplicate of a key is not stored")

    other = trial.job(first.queue_id, key="order 8")
    trial.check.equal(await storage.store_jobs([other]), [other.tracking_id], "another key is another job")
    claimed = await trial.drain(storage, first.queue_id, now=T0 + MINUTE)
    trial.check.counts(ids_of(claimed), ids_of([first, other]), "each key has one record")


@rule("R11")
async def a_duplicate_leaves_the_record_as_it_is(trial: Trial) -> None:
    """The job that stands for a key is the same to the last byte after others were stored with its key."""
    storage = await trial.open()
    for status in JobStatus:
        job = evolve(full_job(trial.tracking_id(), trial.queue()), idempotency_key="k")
        await trial.brought_to(storage, status, job, now=job.execute_after)
        await unchanged_by_duplicates(trial, storage, job, f"{status} job")
    tried = await acts.tried_twice(trial, storage)
    await acts.must_settle(trial.check, storage, tried, retry(T0 + 60 * MINUTE))
    await unchanged_by_duplicates(trial, storage, tried, "job that waits for its retry")


async def unchanged_by_duplicates(trial: Trial, storage: JobStorageProvider, job: JobRecord, which: str) -> None:
    """Store jobs with the key of *job* that differ in one field or another: it must stay as it stands."""
    assert job.expire_on is not None
    (before,) = await trial.read(storage, job)
    fresh = trial.job(job.queue_id, key=job.idempotency_key, expire_on=job.expire_on, priority=job.priority)
    changes: list[dict[str, object]] = [
        {"command": Payload("other")},
        {"execute_after": T0, "dequeue_after": T0, "expire_on": None},
        {"expire_on": job.expire_on + MINUTE},
        {"expire_on": job.expire_on - MINUTE},
        {"priority": 77},
        {"metadata": {"other": "yes"}},
        {"created_at": T0 + 5 * SECOND},
    ]
    duplicates = [evolve(fresh, tracking_id=trial.tracking_id(), **change) for change in changes]  # type: ignore[arg-type]  # a mapping of fields

    for duplicate in duplicates:
        await storage.store_jobs([duplicate])
        (after,) = await trial.read(storage, job)
        trial.check.equal(after, before, f"a duplicate leaves the {which} that stands as it is")
    await storage.store_jobs(duplicates)
    (after,) = await trial.read(storage, job)
    trial.check.equal(after, before, f"a batch of duplicates leaves the {which} that stands as it is")


@rule("R12")
async def a_key_is_unique_in_its_queue_only(trial: Trial) -> None:
    """The same key in two queues, and in two namespaces, is two jobs."""
    storage = await trial.open()
    here, there = trial.job(trial.queue(), key="k"), trial.job(trial.queue(), key="k")
    batch = [trial.job(trial.queue(), key="k") for _ in range(3)]

    standing = [await storage.store_jobs([here]), await storage.store_jobs([there]), await storage.store_jobs(batch)]
    trial.check.equal(standing, [ids_of([here]), ids_of([there]), ids_of(batch)], "a key is unique in its queue only")
    claimed = await trial.drain(storage, here.queue_id, there.queue_id, *(job.queue_id for job in batch))
    trial.check.counts(ids_of(claimed), ids_of([here, there, *batch]), "a key in several queues is as many jobs")

    async with trial.another_place() as url:
        other = await trial.open(url)
        elsewhere = trial.job(here.queue_id, key="k")
        answer = await other.store_jobs([elsewhere])
        trial.check.equal(answer, [elsewhere.tracking_id], "a key is unique in its namespace only")
        trial.check.counts(
            ids_of(await trial.drain(other, here.queue_id)), [elsewhere.tracking_id], "the other namespace has its job"
        )
        await other.close()


@rule("R12")
async def a_queue_and_a_key_are_two_things(trial: Trial) -> None:
    """What a queue's name and a key spell together decides nothing: "a:b" with "c" is not "a" with "b:c"."""
    storage = await trial.open()
    for mark in (":", "/", "|", ".", ",", "-", "_", " ", ""):
        here = trial.job(f"a{mark}b", key=f"{mark}c{mark}d")
        there = trial.job("a", key=f"b{mark}{mark}c{mark}d")
        longer = trial.job(f"a{mark}b{mark}{mark}c", key="d")
        jobs = [here, there, longer]
        standing = [(await storage.store_jobs([job]))[0] for job in jobs]
        trial.check.equal(standing, ids_of(jobs), f"a queue and a key that are parted by {mark!r} are two things")
        again = [evolve(job, tracking_id=trial.tracking_id()) for job in jobs]
        trial.check.equal(await storage.store_jobs(again), ids_of(jobs), "each key gives the job of its own queue")


@rule("R13")
async def jobs_without_a_key_are_never_deduplicated(trial: Trial) -> None:
    """Many jobs that differ in nothing but their ids are all stored, in one batch and in several."""
    storage = await trial.open()
    together, apart = trial.jobs(5), trial.jobs(3)

    standing = await storage.store_jobs(together)
    for job in apart:
        standing += await storage.store_jobs([job])
    claimed = await trial.drain(storage, QUEUE)

    ids = ids_of(together + apart)
    trial.check.equal(standing, ids, "each job without a key is stored under its own id")
    trial.check.counts(ids_of(claimed), ids, "jobs without a key are never deduplicated")


@rule("R13")
async def a_blank_key_is_no_key(trial: Trial) -> None:
    """The value turns an empty or blank key into None; any other key it leaves as it is."""
    make = trial.values.job_record
    keys = {"": None, " ": None, "\t\n": None, "\u00a0": None, " k ": " k ", "0": "0", "None": "None"}
    for key, expected in keys.items():
        job = trial.job()
        made = make(
            tracking_id=job.tracking_id,
            queue_id=QUEUE,
            command=job.command,
            execute_after=T0,
            expire_on=None,
            created_at=T0,
            idempotency_key=key,
        )
        trial.check.equal(made.idempotency_key, expected, f"the key {key!r} becomes {expected!r} in the value")


@rule("R14")
async def simultaneous_stores_of_a_key_create_one_job(trial: Trial) -> None:
    """Sixteen tasks store one key at the same time: one job is created, and all get its id."""
    storage = await trial.open()
    for schedule in trial.schedules(12):
        jobs = [trial.job(f"q{schedule.rng.random()}", key="k") for _ in range(16)]
        jobs = [evolve(job, queue_id=jobs[0].queue_id) for job in jobs]
        calls = [
            trial.check.answers(storage.store_jobs([job]), "no error leaks from simultaneous stores of one key")
            for job in jobs
        ]
        await one_was_created(trial, storage, jobs, await schedule.jittered(*calls))


@rule("R14")
async def simultaneous_stores_on_several_instances_create_one_job(trial: Trial) -> None:
    """Four instances, one of them on a thread, store one key sixteen times at the same time: one job is created."""
    instances = [await trial.open() for _ in range(3)]
    thread = await trial.open_on_thread()
    for schedule in trial.schedules(6):
        queue = trial.queue()
        jobs = [trial.job(queue, key="k") for _ in range(16)]

        def on_thread(job: JobRecord) -> asyncio.Future[list[UUID]]:
            return asyncio.ensure_future(thread.run(lambda other: other.store_jobs([job])))

        calls = [
            trial.check.answers(
                on_thread(job) if number % 4 == 3 else instances[number % 4].store_jobs([job]),
                "no error leaks from simultaneous stores of one key by several instances",
            )
            for number, job in enumerate(jobs)
        ]
        await one_was_created(trial, instances[0], jobs, await schedule.jittered(*calls))


@rule("R14", needs=frozenset({Need.SHARED}))
async def simultaneous_stores_of_processes_create_one_job(trial: Trial) -> None:
    """Four processes store one key sixteen times at the same time: one job is created, and all get its id."""
    storage, nursery = await trial.open(), await trial.open_nursery()
    for _ in range(trial.scaled(3)):
        queue = trial.queue()
        jobs = [trial.job(queue, key="k") for _ in range(16)]
        parts: list[dict[str, Json]] = [
            {"queue": queue, "ids": [str(job.tracking_id) for job in jobs[n::4]]} for n in range(4)
        ]
        answers = await trial.check.answers(
            trial.in_processes(nursery, crowds.store_keyed, parts),
            "no error leaks from simultaneous stores of one key by several processes",
            within=timedelta(seconds=40),
        )
        await one_was_created(trial, storage, jobs, [[UUID(standing)] for answer in answers for standing in answer])


async def one_was_created(
    trial: Trial, storage: JobStorageProvider, jobs: Sequence[JobRecord], answers: Sequence[Sequence[UUID]]
) -> None:
    """Check that exactly one of *jobs*, stored with one key, is there, and that every answer names it."""
    stored = [job.tracking_id for job in jobs if await storage.get_job(job.tracking_id) is not None]
    trial.check.equal(len(stored), 1, "of many simultaneous stores of one key exactly one creates a job")
    trial.check.equal([list(answer) for answer in answers], [stored] * len(jobs), "all get the id of the one created")


@rule("R15")
async def a_finished_job_still_holds_its_key(trial: Trial) -> None:
    """Whatever became of the first job: as long as it is not purged, its key gives it, on any instance."""
    storage, other = await trial.open(), await trial.open()
    for status in JobStatus:
        job = await trial.brought_to(storage, status, trial.job(trial.queue(), key="k"))
        for instance in (storage, other):
            again = trial.job(job.queue_id, key="k", execute_after=T0 + 60 * MINUTE)
            standing = await instance.store_jobs([again])
            trial.check.equal(standing, [job.tracking_id], f"a {status} job holds its key until it is purged")
            trial.check.equal(await storage.get_job(again.tracking_id), None, "the duplicate is not stored")
        (after,) = await trial.read(storage, job)
        trial.check.equal(after, job, f"a duplicate leaves the {status} job as it is")


@rule("R15")
async def a_purge_of_others_frees_no_key(trial: Trial) -> None:
    """A purge that a finished job outlives leaves its key with it."""
    storage = await trial.open()
    job = await trial.brought_to(storage, JobStatus.SUCCEEDED, trial.job(trial.queue(), key="k"))
    gone = await trial.brought_to(storage, JobStatus.FAILED, trial.job(trial.queue(), key="k"))

    await acts.purge(storage, JobStatus.FAILED, now=T0 + MINUTE)

    trial.check.equal(await storage.get_job(gone.tracking_id), None, "a failed job is purged")
    standing = await storage.store_jobs([trial.job(job.queue_id, key="k")])
    trial.check.equal(standing, [job.tracking_id], "a job that outlives a purge holds its key")


@rule("R16")
async def a_purged_job_frees_its_key(trial: Trial) -> None:
    """Once the job is purged its key makes a new job, which holds it in turn."""
    storage = await trial.open()
    for status in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED):
        queue = trial.queue()
        for _ in range(2):
            job = await trial.brought_to(storage, status, trial.job(queue, key="k"))
            await acts.purge(storage, status, now=T0 + 2 * MINUTE)
            trial.check.equal(await storage.get_job(job.tracking_id), None, f"a {status} job is purged")
        fresh, again = trial.job(queue, key="k"), trial.job(queue, key="k")
        standing = [await storage.store_jobs([fresh]), await storage.store_jobs([again])]
        trial.check.equal(standing, [[fresh.tracking_id]] * 2, f"the key of a purged {status} job makes one new job")
        trial.check.counts(ids_of(await trial.drain(storage, queue)), ids_of([fresh]), "which can be claimed")


@rule("R16")
async def a_key_that_another_instance_has_freed_is_free(trial: Trial) -> None:
    """An instance that stored a key, and was told who holds it, stores a new job once another one purged that."""
    storage, other = await trial.open(), await trial.open()
    for instance in (storage, other):
        job = await trial.brought_to(storage, JobStatus.CANCELLED, trial.job(trial.queue(), key="k"))
        standing = await instance.store_jobs([trial.job(job.queue_id, key="k")])
        trial.check.equal(standing, [job.tracking_id], "a finished job holds its key")
        await acts.purge(other, JobStatus.CANCELLED, now=T0, queue_ids=frozenset({job.queue_id}))
        fresh = trial.job(job.queue_id, key="k")
        trial.check.equal(await instance.store_jobs([fresh]), [fresh.tracking_id], "the key of a job that was purged")
        trial.check.equal(await trial.read(storage, fresh), [fresh], "the job that was stored with a freed key")


@rule("R16")
async def storing_a_key_while_its_job_is_purged_raises_nothing(trial: Trial) -> None:
    """A key that is stored while its job is purged gives the old job or makes a new one, never an error."""
    storage, other = await trial.open(), await trial.open()
    for schedule in trial.schedules(12):
        job = await trial.brought_to(storage, JobStatus.SUCCEEDED, trial.job(trial.queue(), key="k"))
        news = [trial.job(job.queue_id, key="k") for _ in range(3)]
        promise = "storing a key while its job is purged raises nothing"

        async def purge() -> list[UUID]:
            await acts.purge(other, JobStatus.SUCCEEDED, now=T0 + MINUTE)
            return []

        calls = [storage.store_jobs(news[:1]), other.store_jobs(news[1:2]), storage.store_jobs(news[2:]), purge()]
        answers = await schedule.jittered(*(trial.check.answers(call, promise) for call in calls))

        stored = [new.tracking_id for new in news if await storage.get_job(new.tracking_id) is not None]
        trial.check.true(len(stored) <= 1, "a key stands for one job", expected="at most one new job", seen=stored)
        standing = {answer for found in answers for answer in found} - {job.tracking_id}
        trial.check.equal(standing, set(stored), "each answer is the old job, or a new one that is there")
        trial.check.equal(await storage.get_job(job.tracking_id), None, "the finished job is purged")


@rule("R17")
async def keys_that_look_alike_are_kept_apart(trial: Trial) -> None:
    """Keys that differ in case, Unicode form, white space or a late byte are different keys, or clearly refused."""
    storage = await trial.open()
    made_up = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40).filter(str.strip)
    keys = list(dict.fromkeys([*ALIKE, *trial.examples(made_up, 60)]))
    queue, kept = trial.queue(), list[JobRecord]()
    for key in keys:
        job = trial.job(queue, key=key)
        try:
            standing = await storage.store_jobs([job])
        except UnstorableError as error:
            trial.check.equal(error.tracking_id, job.tracking_id, "a key that can't be held is refused by name")
            trial.check.equal(await storage.get_job(job.tracking_id), None, "what is refused is not stored")
            continue
        trial.check.equal(standing, [job.tracking_id], f"the key {key[:20]!r}... is taken for no other one")
        kept.append(job)

    trial.check.true(len(kept) > 30, "ordinary keys can be held", expected="most of them", seen=f"{len(kept)} kept")
    for job, seen in zip(kept, await trial.read(storage, *kept), strict=True):
        trial.check.equal(seen.idempotency_key, job.idempotency_key, "a key comes back exactly")
    again = await storage.store_jobs([evolve(job, tracking_id=trial.tracking_id()) for job in kept])
    trial.check.equal(again, ids_of(kept), "each key gives its own job")


@rule("R18")
async def a_keyed_job_never_conflicts_with_itself(trial: Trial) -> None:
    """A job with a key is retried, released, rescued, and runs on: its own key is never in its way."""
    storage, check = await trial.open(), trial.check
    job = await trial.started(storage, trial.job(trial.queue(), key="k"))
    now, promise = T0, "a job with a key is never in its own way"

    for outcome in (retry(now), Release(), None, retry(now), Release()):
        if outcome is None:
            now += LEASE
        else:
            settled = await check.answers(acts.settle(storage, job, outcome, now=now), promise)
            check.true(settled, promise, expected=f"{type(outcome).__name__} is applied", seen="it was refused")
        claimed = await check.answers(acts.claim(storage, job.queue_id, now=now), promise)
        check.equal(ids_of(claimed), [job.tracking_id], f"{promise}: it is claimed again")
        (job,) = claimed
        standing = await storage.store_jobs([trial.job(job.queue_id, key="k")])
        check.equal(standing, [job.tracking_id], "all the time it holds its key")

    settled = await check.answers(acts.settle(storage, job, Succeeded(), now=now), promise)
    check.true(settled, promise, expected="Succeeded is applied", seen="it was refused")
    (ended,) = await trial.read(storage, job)
    check.equal(ended.idempotency_key, "k", "the key stays with its job")


@rule("R18", needs=frozenset({Need.INSPECT}))
async def a_requeued_job_never_conflicts_with_itself(trial: Trial) -> None:
    """A job with a key that failed, was cancelled or expired is requeued with its key."""
    storage, check = await trial.open(), trial.check
    for status in (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED):
        job = await trial.brought_to(storage, status, trial.job(trial.queue(), key="k"))

        answer = await check.answers(
            inspector_of(storage).requeue_job(job.tracking_id, now=T0 + 2 * MINUTE, expire_on=None),
            "a requeued job with a key is not in its own way",
        )

        check.equal(answer, Requeue.REQUEUED, f"a {status} job with a key can be requeued")
        standing = await storage.store_jobs([trial.job(job.queue_id, key="k")])
        check.equal(standing, [job.tracking_id], "a requeued job holds its key")
        (again,) = await acts.claim(storage, job.queue_id, now=T0 + 2 * MINUTE)
        check.equal((again.tracking_id, again.idempotency_key), (job.tracking_id, "k"), "and is claimed with it")
        await acts.must_settle(check, storage, again, failed(), now=T0 + 2 * MINUTE + timedelta(seconds=1))
