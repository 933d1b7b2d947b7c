"""Section L: what was acknowledged survives the death of every process, at any line. For durable storages."""

from collections.abc import Mapping
from datetime import timedelta

from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobInspector, JobResultProvider, JobStorageProvider
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, failed, full_job, ids_of, retry
from pannier_testing.checks import InconclusiveError
from pannier_testing.kill_loop import (
    IN_FLIGHT,
    WORKERS,
    Ground,
    check_executions,
    check_fences,
    kill_at_random,
    read_journal,
)
from pannier_testing.line_steps import Search, prepared, stepped, sweep_lines
from pannier_testing.rules import Need, rule
from pannier_testing.scenes import NOW, Scene, model_of, scene_names
from pannier_testing.trial import Trial, inspector_of, results_of


async def job_in_every_state(trial: Trial, storage: JobStorageProvider) -> dict[str, JobRecord]:
    """Store jobs, bring each into another state, and return them as they were made, by the state's name."""
    jobs = {name: trial.job(trial.queue(), key=f"key of {name}") for name in _STATES}
    full = full_job(trial.tracking_id(), trial.queue())
    await storage.store_jobs([*jobs.values(), full])
    for name, job in jobs.items():
        if name == "waiting":
            continue
        claimed = (await storage.claim_jobs(claim_of(job.queue_id))).jobs[0]
        if name == "failed" and trial.offers(Need.RESULTS):
            await results_of(storage).store_progress(claimed.lease, Payload("half way"))
        if name in _OUTCOMES:
            await storage.settle_jobs([Settlement(claimed.lease, _OUTCOMES[name])], now=T0 + SECOND)
    await storage.cancel_job(jobs["cancelled"].tracking_id, now=T0 + SECOND)
    late = trial.job(trial.queue(), expire_on=T0 + SECOND)
    await storage.store_jobs([late])
    await storage.purge_stale_jobs(StaleJobs(now=T0 + SECOND, keep={}, queue_ids=frozenset({late.queue_id})))
    lapsed = (await storage.claim_jobs(claim_of(jobs["lapsed"].queue_id, now=T0 + LEASE, worker="another"))).jobs[0]
    if trial.offers(Need.RESULTS):
        await results_of(storage).store_progress(lapsed.lease, Payload({"done": b"\x00\xff".hex()}))
    return {**jobs, "with every field": full, "expired": late}


_STATES = ("waiting", "running", "lapsed", "succeeded", "failed", "to be retried", "released", "cancelled")
_OUTCOMES: Mapping[str, Outcome] = {
    "succeeded": Succeeded(Payload(b"\x00\xff result")),
    "failed": failed(T0 + SECOND),
    "to be retried": retry(T0 + 90 * SECOND, at=T0 + SECOND),
    "released": Release(),
}


async def all_of(storage: JobStorageProvider, jobs: Mapping[str, JobRecord]) -> dict[str, object]:
    """Return everything that *storage* tells of *jobs*."""
    told: dict[str, object] = {}
    for name, job in jobs.items():
        told[name] = await storage.get_job(job.tracking_id)
        if isinstance(storage, JobResultProvider):
            told[f"result of {name}"] = await storage.get_job_result(job.tracking_id)
    if isinstance(storage, JobInspector):
        counts = await storage.count_jobs(JobFilter())
        told["counts"] = {f"{queue_id} {status}": n for (queue_id, status), n in sorted(counts.items()) if n}
    return told


@rule("R84")
async def everything_is_the_same_after_reopening(trial: Trial) -> None:
    """Jobs in every state, closed and opened again: every field, result, count, key and lease is as it was."""
    storage = await trial.open()
    jobs = await job_in_every_state(trial, storage)
    before = await all_of(storage, jobs)
    await storage.close()

    again = await trial.open()

    after = await all_of(again, jobs)
    for name, told in before.items():
        trial.check.equal(after[name], told, f"after close and open, {name} is as before")
    keyed = [job for job in jobs.values() if job.idempotency_key is not None]
    twins = [trial.job(job.queue_id, key=job.idempotency_key) for job in keyed]
    trial.check.equal(await again.store_jobs(twins), ids_of(keyed), "after close and open, every key still blocks")
    running = await again.get_job(jobs["running"].tracking_id)
    assert running is not None
    hidden = await again.claim_jobs(claim_of(running.queue_id, now=running.dequeue_after - trial.tick))
    trial.check.equal(hidden.jobs, (), "after close and open, a live lease still hides its job")
    lost = await again.renew_leases([running.lease], now=T0 + SECOND, lease_for=LEASE)
    trial.check.equal(lost, frozenset(), "after close and open, the holder of a lease can renew it")


@rule("R85", deadline=timedelta(seconds=120))
async def what_was_acknowledged_survives_sigkill(trial: Trial) -> None:
    """Each operation in a process that is killed right after the answer: the effect is there on reopening."""
    stepper = await trial.open_stepper()
    scenes = await prepared(trial, scene_names(trial))
    for scene in scenes:
        await stepped(trial, stepper, scene, "after")

    storage = await trial.open()
    for scene in scenes:
        seen = await storage.get_job(scene.job.tracking_id)
        trial.check.equal(seen, scene.after, f"{scene.name}, killed right after the answer: its effect is there")


@rule("R86", deadline=timedelta(seconds=120))
async def killed_around_a_call_nothing_is_out_of_order(trial: Trial) -> None:
    """Each operation in a process that is killed before the call or after it: then the invariants hold, and go on."""
    stepper = await trial.open_stepper()
    around = [(scene, where) for where in ("before", "after") for scene in await prepared(trial, scene_names(trial))]
    for scene, where in around:
        await stepped(trial, stepper, scene, where)

    storage = await trial.open()
    for scene, where in around:
        await check_invariants(trial, storage, scene, where)


async def check_invariants(trial: Trial, storage: JobStorageProvider, scene: Scene, where: str) -> None:
    """See that *scene* was or was not played, as *where* says, and that its job goes on as the model says."""
    promise = f"{scene.name}, killed {where} the call"
    expected = scene.before if where == "before" else scene.after
    seen = await storage.get_job(scene.job.tracking_id)
    trial.check.equal(seen, expected, f"{promise}: the job is as {where} the call (I1, I6)")
    model = model_of([] if expected is None else [expected], trial.tick)
    if trial.offers(Need.INSPECT):
        wanted = JobFilter(queue_ids=frozenset({scene.job.queue_id}))
        page = await inspector_of(storage).find_jobs(wanted)
        trial.check.equal(list(page.jobs), model.find(wanted), f"{promise}: nothing else is in its queue (I2, I8)")
        counts = {key: n for key, n in (await inspector_of(storage).count_jobs(wanted)).items() if n}
        trial.check.equal(counts, model.count(wanted), f"{promise}: the counts agree (I8)")
    twin = trial.job(scene.job.queue_id, key=scene.job.idempotency_key)
    trial.check.equal(await storage.store_jobs([twin]), model.store([twin]), f"{promise}: its key blocks, or not (I7)")
    later = claim_of(scene.job.queue_id, limit=5, now=NOW + 2 * LEASE)
    claimed = {job.tracking_id: job for job in (await storage.claim_jobs(later)).jobs}
    wanted_jobs = {job.tracking_id: job for job in model.claim(later).jobs}
    trial.check.equal(claimed, wanted_jobs, f"{promise}: a claim after the lease gets what it should (I4, I5)")
    done = [Settlement(job.lease, Succeeded()) for job in claimed.values()]
    trial.check.equal(await storage.settle_jobs(done, now=later.now), frozenset(), f"{promise}: and can settle it (I3)")


@rule("R87", deadline=timedelta(seconds=300))
async def killed_at_any_line_a_call_was_made_or_not(trial: Trial) -> None:
    """Each operation, killed at lines of the provider: the job is as before the call or as after it."""

    async def judge(storage: JobStorageProvider, scene: Scene, line: int) -> bool:
        return await check_between(trial, storage, scene, line)

    # What adds or takes away a job comes last or stands alone: in a store that reads all jobs, it shifts all lines.
    names = [name for name in scene_names(trial) if name not in {"purge a finished job", "store a job"}]
    await sweep_lines(trial, [*names, "store a job"], judge)
    await sweep_lines(trial, ["purge a finished job"], judge)


async def check_between(trial: Trial, storage: JobStorageProvider, scene: Scene, line: int) -> bool:
    """See that *scene* was played whole or not at all, and that all goes on; return whether it was."""
    where = f"killed at line {line}"
    is_done = await scene.is_done(storage, trial.check, where)
    standing = scene.after if is_done else scene.before
    twin = trial.job(scene.job.queue_id, key=scene.job.idempotency_key, execute_after=NOW + 3600 * SECOND)
    expected = twin if standing is None else standing
    trial.check.equal(
        await storage.store_jobs([twin]),
        [expected.tracking_id],
        f"{scene.name}, {where}: the key stands if and only if its job does",
    )
    found = await storage.get_job(expected.tracking_id)
    trial.check.true(found is not None, f"{scene.name}, {where}: the job of a key is there", expected="it", seen=found)
    later = claim_of(scene.job.queue_id, now=NOW + 2 * LEASE)
    due = model_of([] if standing is None else [standing], trial.tick).claim(later)
    claimed = await storage.claim_jobs(later)
    trial.check.equal(ids_of(claimed.jobs), ids_of(due.jobs), f"{scene.name}, {where}: an unfinished job is not stuck")
    return is_done


@rule("R89", deadline=timedelta(seconds=120))
async def killed_while_opening_a_store_opens_again(trial: Trial) -> None:
    """A process that makes a new store is killed at its lines: the next one opens it, and it works."""
    stepper = await trial.open_stepper()
    async with trial.another_place() as url:
        whole = await stepper.call(url, "open")
        assert whole.lines is not None
    for line in sample(trial, whole.lines, 6):
        async with trial.another_place() as url:
            await stepper.call(url, "open", die_at=line)
            await trial.check.answers(
                stepper.call(url, "open"), f"a store whose making was killed at line {line} opens the next time"
            )
            await check_works(trial, url, f"a store whose making was killed at line {line}")


async def check_works(trial: Trial, url: str, which: str) -> None:
    """See that jobs can be stored at *url*, claimed and settled."""
    storage = await trial.open(url)
    jobs = trial.jobs(3, trial.queue())
    trial.check.equal(await storage.store_jobs(jobs), ids_of(jobs), f"{which} stores jobs")
    claimed = (await storage.claim_jobs(claim_of(jobs[0].queue_id, limit=9))).jobs
    trial.check.counts(ids_of(claimed), ids_of(jobs), f"{which} gives them out")
    refused = await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in claimed], now=T0)
    trial.check.equal(refused, frozenset(), f"{which} lets them be settled")
    await storage.close()


def sample(trial: Trial, lines: int, count: int) -> list[int]:
    """Choose among *lines*: the first and the last one and some between, or all in longer profiles."""
    if trial.is_thorough or lines <= count:
        return list(range(lines))
    return sorted({0, lines - 1, *trial.rng.sample(range(lines), count - 2)})


@rule("R89", deadline=timedelta(seconds=180))
async def a_batch_that_was_killed_can_be_repeated(trial: Trial) -> None:
    """A store of 20 jobs, killed at lines around the one at which it takes effect: the repeat does the rest."""
    stepper = await trial.open_stepper()
    async with trial.another_place() as url:
        whole = await stepper.call(url, "store_jobs", jobs=trial.jobs(20))
    search = Search("store", whole.lines or 0)
    while search.is_open:
        line = search.next_line(trial)
        async with trial.another_place() as url:
            jobs = trial.jobs(20)
            await stepper.call(url, "store_jobs", jobs=jobs, die_at=line)
            search.learn(line, is_done=await check_batch(trial, url, jobs, f"a store killed at line {line}"))


async def check_batch(trial: Trial, url: str, jobs: list[JobRecord], which: str) -> bool:
    """See that *jobs* are there or not, and that storing them again does the rest; return whether they were there."""
    storage = await trial.check.answers(trial.open(url), f"after {which} the store opens")
    there = [
        await trial.check.answers(storage.get_job(job.tracking_id), f"after {which} jobs can be read") for job in jobs
    ]
    count = len(jobs) - there.count(None)
    if trial.offers(Need.ATOMIC_BATCHES):
        trial.check.true(count in (0, len(jobs)), f"{which} is all or nothing", expected="0 or 20", seen=count)
    answer = await trial.check.answers(storage.store_jobs(jobs), f"after {which} it can be repeated")
    trial.check.equal(answer, ids_of(jobs), f"after {which} the repeat stores all")
    claimed = await trial.drain(storage)
    trial.check.counts(ids_of(claimed), ids_of(jobs), f"after {which} and its repeat each job is there once")
    await storage.close()
    return count == len(jobs)


@rule("R89", deadline=timedelta(seconds=180))
async def a_purge_that_was_killed_can_be_repeated(trial: Trial) -> None:
    """A purge of 20 expired jobs, killed at lines around the one at which it takes effect: the repeat does the rest."""
    stepper = await trial.open_stepper()
    stale = StaleJobs(now=T0 + SECOND, keep={JobStatus.EXPIRED: LEASE})
    search = Search("purge", 0)
    while search.is_open:
        async with trial.another_place() as url:
            storage = await trial.open(url)
            jobs = trial.jobs(20, expire_on=T0 + SECOND)
            await storage.store_jobs(jobs)
            await storage.close()
            if not search.lines:
                whole = await stepper.call(url, "purge_stale_jobs", stale=stale)
                search = Search("purge", whole.lines or 1)
                continue
            line = search.next_line(trial)
            await stepper.call(url, "purge_stale_jobs", stale=stale, die_at=line)
            search.learn(line, is_done=await check_purged(trial, url, jobs, stale, f"a purge killed at line {line}"))


async def check_purged(trial: Trial, url: str, jobs: list[JobRecord], stale: StaleJobs, which: str) -> bool:
    """See that a repeat of the purge marks what is not marked yet; return whether nothing was left."""
    storage = await trial.check.answers(trial.open(url), f"after {which} the store opens")
    purged = await trial.check.answers(storage.purge_stale_jobs(stale), f"after {which} it can be repeated")
    trial.check.equal(purged.deleted, 0, f"after {which} nothing of it was deleted")
    statuses = [None if job is None else job.status for job in [await storage.get_job(j.tracking_id) for j in jobs]]
    trial.check.counts(statuses, [JobStatus.EXPIRED] * len(jobs), f"after {which} and its repeat all is marked")
    await storage.close()
    return purged.expired == 0


@rule("R88", deadline=timedelta(seconds=180))
async def workers_killed_at_random_lose_and_double_nothing(trial: Trial) -> None:
    """Two workers store, claim and settle jobs and are killed at random; their journal is what the store must match."""
    kills = trial.scaled(50)
    ground = Ground(trial.place.tmp)
    storage = await trial.open()
    await kill_at_random(await trial.open_nursery(), trial.url, ground, trial.rng, kills)

    journal = read_journal(ground)
    trial.sizes.update({"jobs of the kill loop": len(journal.stored), "kills": kills})
    found = {tracking_id: await storage.get_job(tracking_id) for tracking_id in journal.intended}
    records = [record for record in found.values() if record is not None]
    lost = [tracking_id for tracking_id in journal.stored if found[tracking_id] is None]
    trial.check.equal(lost, [], "no acknowledged job is lost (I1)")
    statuses = {record.status for record in records}
    trial.check.equal(statuses, {JobStatus.SUCCEEDED}, "every job is completed in the end (I1)")
    trial.check.counts(journal.executions.keys(), ids_of(records), "every job was run, and nothing else (I2)")
    check_executions(trial.check, journal)
    check_fences(trial.check, journal, records, kills)
    trial.check.true(
        journal.redeliveries <= kills * WORKERS * IN_FLIGHT,
        "a kill makes at most what was in flight be given out again",
        expected=f"at most {kills * WORKERS * IN_FLIGHT}",
        seen=journal.redeliveries,
    )
    if trial.offers(Need.RESULTS):
        results = {None if record.result is None else record.result.data for record in records}
        trial.check.equal(results, {"done"}, "whatever succeeded has its result (I6)")
    if journal.redeliveries < kills // 5:
        raise InconclusiveError(f"of {kills} kills only {journal.redeliveries} left a job to be given out again")
