"""Section S: a store comes about once, whoever opens it, and keeps what is in it."""

from datetime import timedelta

from pannier.storage import JobStorageProvider
from pannier_testing.builders import T0, claim_of, ids_of
from pannier_testing.conformance.l_durability import all_of, job_in_every_state
from pannier_testing.processes import barrier
from pannier_testing.rules import Need, rule
from pannier_testing.storing import open_and_store
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
