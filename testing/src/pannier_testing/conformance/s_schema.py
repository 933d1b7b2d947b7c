"""Section S: a store comes about once, whoever opens it, and keeps what is in it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from pannier.errors import PannierError, SchemaTooNewError
from pannier.records import JobStatus
from pannier.storage import JobStorageProvider
from pannier_testing.builders import T0, claim_of, ids_of
from pannier_testing.checks import InconclusiveError
from pannier_testing.conformance.l_durability import all_of, job_in_every_state
from pannier_testing.processes import barrier
from pannier_testing.rules import Need, rule
from pannier_testing.scenes import Scene, scene_names, scene_of
from pannier_testing.storing import open_and_store, run_all
from pannier_testing.subject import NewerSchema
from pannier_testing.trial import Trial

PROCESSES = 8
ROUNDS = 3


@rule("R114")
async def opened_three_times_a_store_is_one(trial: Trial) -> None:
    """Three instances, and each of them three times, open one new store: all succeed, and share jobs and keys."""
    instances = [trial.create() for _ in range(3)]
    for turn in ("first", "second", "third"):
        for storage in instances:
            await trial.check.answers(storage.open(), f"the {turn} open() of an instance succeeds")
    queue = trial.queue()
    own = trial.jobs(3, queue)

    for storage, job in zip(instances, own, strict=True):
        await trial.check.answers(storage.store_jobs([job]), "an instance that was opened three times works")

    keyed = [trial.job(queue, key="one") for _ in instances]
    standing = [(await storage.store_jobs([job]))[0] for storage, job in zip(instances, keyed, strict=True)]
    trial.check.equal(standing, [keyed[0].tracking_id] * 3, "a key stands for one job, whichever instance stores it")
    claimed = await instances[0].claim_jobs(claim_of(queue, limit=9))
    trial.check.counts(
        ids_of(claimed.jobs), [*ids_of(own), keyed[0].tracking_id], "each instance's jobs are in the one store, once"
    )


@rule("R114", needs=frozenset({Need.SHARED}), deadline=timedelta(seconds=120))
async def eight_processes_open_a_new_store_at_once(trial: Trial) -> None:
    """Eight processes open a store that is not there yet at one moment: all succeed, and share jobs and keys."""
    nursery = await trial.open_nursery()
    for _ in range(trial.scaled(ROUNDS)):
        async with trial.another_place() as url:
            own = trial.jobs(PROCESSES)
            at = barrier(0.3)
            pids = [
                await nursery.fork(url, open_and_store, start_at=at, own=str(job.tracking_id), keyed=str(new))
                for job, new in ((job, trial.tracking_id()) for job in own)
            ]
            promise = f"{PROCESSES} processes open a new store at once, and each stores its jobs"
            told = [str(await trial.check.answers(nursery.join(pid), promise)) for pid in pids]
            trial.check.true(
                len(set(told)) == 1,
                "a key stands for one job, whichever of the processes stored it: there is one schema",
                expected=f"one id, {PROCESSES} times",
                seen=told,
            )
            await _check_all_there(trial, url, {*map(str, ids_of(own)), told[0]})


async def _check_all_there(trial: Trial, url: str, expected: set[str]) -> None:
    storage = await trial.check.answers(trial.open(url), "a store that many processes made opens")
    found = [str(job.tracking_id) for job in await trial.drain(storage)]
    trial.check.counts(found, expected, "what each process stored is in the one store, once")
    await storage.close()


@rule("R115", deadline=timedelta(seconds=120))
async def opening_a_store_keeps_what_is_there(trial: Trial) -> None:
    """A store with jobs in every state is opened again, and again beside an open instance: nothing is changed."""
    storage = await trial.open()
    jobs = await job_in_every_state(trial, storage)
    before = await all_of(storage, jobs)

    other = await trial.open()
    trial.check.equal(await all_of(other, jobs), before, "opening a store beside another instance changes nothing")
    await storage.close()
    await other.close()
    for turn in ("again", "a third time"):
        storage = await trial.check.answers(trial.open(), f"a store with jobs opens {turn}")
        trial.check.equal(await all_of(storage, jobs), before, f"opening a store {turn} changes nothing")
        await storage.close()
    await check_works(trial, await trial.open(), "a store that was opened again")


@rule("R115", needs=frozenset({Need.SCHEMA_HISTORY}), deadline=timedelta(seconds=120))
async def an_older_store_is_migrated_with_its_jobs(trial: Trial) -> None:
    """A store of each earlier schema, with jobs in every state, opens: nothing is changed, and it is as a new one."""
    for schema, earlier in trial.subject.earlier_stores.items():
        which = f"a store of the schema {schema!r}"
        async with trial.another_place() as url, _earlier(earlier, url) as old:
            jobs = await job_in_every_state(trial, old)
            before = await all_of(old, jobs)
            await old.close()

            for turn in ("", ", and opens again"):
                storage = await trial.check.answers(trial.open(url), f"{which} opens{turn}")
                after = await all_of(storage, jobs)
                for name, told in before.items():
                    trial.check.equal(after[name], told, f"{which} opens{turn}: {name} is as it was")
                await check_works(trial, storage, f"{which}, when it is opened,")
                before = await all_of(storage, jobs)
                await storage.close()


@rule("R115", needs=frozenset({Need.NEWER_SCHEMA}))
async def a_newer_store_that_says_it_is_compatible_opens(trial: Trial) -> None:
    """A store whose newer schema says that this adapter may use it: it opens, keeps its jobs, and works."""
    storage = await trial.open()
    jobs = await job_in_every_state(trial, storage)
    before = await all_of(storage, jobs)
    await storage.close()
    await trial.aided(trial.subject.make_newer, trial.url, NewerSchema.COMPATIBLE)

    storage = await trial.check.answers(trial.open(), "a store of a newer, compatible schema opens")

    trial.check.equal(await all_of(storage, jobs), before, "opening a newer, compatible store changes nothing")
    await check_works(trial, storage, "a store of a newer, compatible schema")


@rule("R115", needs=frozenset({Need.NEWER_SCHEMA}))
async def a_newer_store_that_is_incompatible_is_left_alone(trial: Trial) -> None:
    """A store whose newer schema says that this adapter must not use it: SchemaTooNewError, and nothing is changed."""
    storage = await trial.open()
    job = trial.job()
    await storage.store_jobs([job, *trial.jobs(4)])
    await storage.close()
    await trial.aided(trial.subject.make_newer, trial.url, NewerSchema.INCOMPATIBLE)
    before = await _unknown_fields(trial, trial.url)
    _check_are_there(before)

    told: list[tuple[int, int]] = []
    for turn in ("", ", each time"):
        storage = trial.create()
        promise = f"opening a store of a newer, incompatible schema is a SchemaTooNewError{turn}"
        error = await trial.check.raises(SchemaTooNewError, storage.open(), promise)
        told.append((error.found, error.known))
        missing = [number for number in told[-1] if str(number) not in str(error)]
        trial.check.equal(missing, [], "the error's message names both versions")
        await trial.check.raises(PannierError, storage.get_job(job.tracking_id), "what refused to open is not open")
        trial.check.equal(await _unknown_fields(trial, trial.url), before, "what refused to open has changed nothing")
    trial.check.true(told[0][0] > told[0][1], "the schema found is newer than the known", expected=">", seen=told[0])
    trial.check.equal(told[1], told[0], "what refused to open has not touched the schema's version")


@rule("R116", deadline=timedelta(seconds=120))
async def an_earlier_version_works_on_beside_this_one(trial: Trial) -> None:
    """An instance of an earlier version has jobs when this one migrates its store: each ends what the other began."""
    for schema, earlier in trial.subject.earlier_stores.items():
        async with trial.another_place() as url, _earlier(earlier, url) as old:
            begun = [await scene_of(trial, old, name) for name in scene_names(trial)]
            handed_over = [await scene_of(trial, old, name) for name in scene_names(trial)]
            new = await trial.check.answers(trial.open(url), f"a store opens while version {schema!r} works in it")

            await _play(trial, begun, old, f"begun and ended by version {schema!r}, migrated in between")
            await _play(trial, handed_over, new, f"begun by version {schema!r}, ended by this one")
            back = [await scene_of(trial, new, name) for name in scene_names(trial)]
            await _play(trial, back, old, f"begun by this version, ended by version {schema!r}")
            for scene in (*begun, *handed_over, *back):
                ended = [await storage.get_job(scene.job.tracking_id) for storage in (old, new)]
                trial.check.equal(ended, [scene.after] * 2, f"{scene.name}: both versions see the same")
            await new.close()


@rule("R116", needs=frozenset({Need.SHARED}), deadline=timedelta(seconds=180))
async def workers_of_both_versions_share_the_jobs_out(trial: Trial) -> None:
    """While an earlier version's worker runs many jobs, three processes of this one open the store and join it."""
    nursery = await trial.open_nursery()
    count = trial.sized("jobs that two versions share", 300, least=60, seconds=0.5)
    soon = timedelta(seconds=60)
    for schema, earlier in trial.subject.earlier_stores.items():
        async with trial.another_place() as url, _earlier(earlier, url) as old:
            jobs = trial.jobs(count)
            await old.store_jobs(jobs)
            at = barrier(0.3)
            pids = [await nursery.fork(url, run_all, start_at=at, worker=f"new {number}") for number in range(3)]
            await asyncio.sleep(max(0.0, at - time.monotonic()))

            promise = f"workers of this version and of version {schema!r} run the jobs of one store"
            runs = await trial.check.answers(run_all(old, worker="old", pause=0.005), promise, within=soon)
            if len(runs) in (0, len(jobs)):
                raise InconclusiveError("the workers of one version ran all jobs before the others had begun")
            for pid in pids:
                joined: Any = await trial.check.answers(nursery.join(pid), promise, within=soon)
                runs += joined
            trial.check.counts(runs, map(str, ids_of(jobs)), f"{promise}: each job is run once, and none is lost")
            ended = [job.status for job in await trial.read(old, *jobs)]
            trial.check.counts(ended, [JobStatus.SUCCEEDED] * len(jobs), f"{promise}: each job has succeeded")


@rule("R116", needs=frozenset({Need.NEWER_SCHEMA}))
async def what_a_newer_worker_wrote_is_kept(trial: Trial) -> None:
    """Jobs with a field that only a newer version knows go through each operation: the field is as it was."""
    storage = await trial.open()
    scenes = [await scene_of(trial, storage, name) for name in scene_names(trial)]
    await storage.close()
    await trial.aided(trial.subject.make_newer, trial.url, NewerSchema.COMPATIBLE)
    before = await _unknown_fields(trial, trial.url)
    _check_are_there(before)

    storage = await trial.check.answers(trial.open(), "a store of a newer, compatible schema opens")
    await _play(trial, scenes, storage, "on a job with a field that it does not know")

    after = await _unknown_fields(trial, trial.url)
    for scene in scenes:
        tracking_id = str(scene.job.tracking_id)
        if scene.before is not None and scene.after is not None:
            trial.check.equal(after.get(tracking_id), before[tracking_id], f"{scene.name}: a newer field is kept")


async def _play(trial: Trial, scenes: list[Scene], storage: JobStorageProvider, how: str) -> None:
    for scene in scenes:
        await trial.check.answers(scene.act.on(storage), f"{scene.name}, {how}")
        seen = await storage.get_job(scene.job.tracking_id)
        trial.check.equal(seen, scene.after, f"{scene.name}, {how}: it has its effect")


@asynccontextmanager
async def _earlier(make: Callable[[str], JobStorageProvider], url: str) -> AsyncIterator[JobStorageProvider]:
    """Open an instance of an earlier version, and close it at last."""
    storage = make(url)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def _unknown_fields(trial: Trial, url: str) -> Mapping[str, object]:
    return await trial.aided(trial.subject.unknown_fields, url)


def _check_are_there(fields: Mapping[str, object]) -> None:
    if not fields or None in fields.values():
        raise InconclusiveError("make_newer() gave the stored jobs no field that unknown_fields() sees")


async def check_works(trial: Trial, storage: JobStorageProvider, which: str) -> None:
    """See that a job's whole life can be lived in the store."""
    job = trial.job(trial.queue(), key=trial.queue())
    trial.check.equal(
        await trial.check.answers(storage.store_jobs([job]), f"{which} stores a job"),
        [job.tracking_id],
        f"{which} stores a job",
    )
    claimed = await trial.check.answers(storage.claim_jobs(claim_of(job.queue_id)), f"{which} gives a job out")
    trial.check.equal(ids_of(claimed.jobs), [job.tracking_id], f"{which} gives a job out")
    await trial.check.answers(storage.cancel_job(job.tracking_id, now=T0), f"{which} lets a job be cancelled")
