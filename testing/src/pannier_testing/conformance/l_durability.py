"""Section L: what was acknowledged survives the death of every process, at any line. For durable storages."""

from collections.abc import Mapping

from pannier.records import JobFilter, JobRecord, JobStatus, Payload, Release, Settlement, StaleJobs, Succeeded
from pannier.storage import JobInspector, JobResultProvider, JobStorageProvider
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, failed, full_job, retry
from pannier_testing.processes import Stepped, Stepper
from pannier_testing.rules import Need, rule
from pannier_testing.scenes import NOW, Scene, ids_of, model_of, scene_names, scene_of
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
_OUTCOMES = {
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


async def stepped(
    trial: Trial, stepper: Stepper, scene: Scene, die_at: "int | str | None", url: str | None = None
) -> Stepped:
    """Play *scene* in a fork; an error there breaks the rule: what a killed process left stops nobody."""
    return await trial.check.answers(
        stepper.call(url or trial.url, scene.act.verb, die_at=die_at, **scene.act.arguments),  # type: ignore[arg-type]
        f"{scene.name}, in a process of its own, after others were killed",
    )


@rule("R85")
async def what_was_acknowledged_survives_sigkill(trial: Trial) -> None:
    """Each operation in a process that is killed right after the answer: the effect is there on reopening."""
    stepper = await trial.open_stepper()
    for name in scene_names(trial):
        storage = await trial.open()
        scene = await scene_of(trial, storage, name)
        await storage.close()

        await stepped(trial, stepper, scene, "after")

        again = await trial.open()
        seen = await again.get_job(scene.job.tracking_id)
        trial.check.equal(seen, scene.after, f"{name}, killed right after the answer: its effect is there")
        await again.close()


@rule("R86", deadline_seconds=120)
async def killed_around_a_call_nothing_is_out_of_order(trial: Trial) -> None:
    """Each operation in a process that is killed before the call or after it: then the invariants hold, and go on."""
    stepper = await trial.open_stepper()
    for name in scene_names(trial):
        storage = await trial.open()
        scenes = {where: await scene_of(trial, storage, name) for where in ("before", "after")}
        await storage.close()
        for where, scene in scenes.items():
            await stepped(trial, stepper, scene, where)
        again = await trial.open()
        for where, scene in scenes.items():
            await check_invariants(trial, again, scene, where)
        await again.close()


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


@rule("R87", deadline_seconds=300)
async def killed_at_any_line_a_call_was_made_or_not(trial: Trial) -> None:
    """Each operation, killed at lines of the provider (all of them in longer profiles): before or after, not between."""
    stepper = await trial.open_stepper()
    points = await lines_to_die_at(trial, stepper)
    storage = await trial.open()
    scenes = [(await scene_of(trial, storage, name), line) for name, line in points]
    await storage.close()
    for scene, line in scenes:
        await stepped(trial, stepper, scene, line)
    again = await trial.open()
    for scene, line in scenes:
        await check_between(trial, again, scene, line)


async def lines_to_die_at(trial: Trial, stepper: Stepper) -> list[tuple[str, int]]:
    """Count the lines that each operation takes, and choose among them: 40 in quick, else all."""
    storage = await trial.open()
    scenes = [await scene_of(trial, storage, name) for name in scene_names(trial)]
    await storage.close()
    points: list[tuple[str, int]] = []
    for scene in scenes:
        whole = await stepped(trial, stepper, scene, None)
        assert whole.lines is not None
        points += [(scene.name, line) for line in range(whole.lines)]
    trial.sizes["lines"] = len(points)
    count = len(points) if trial.is_thorough else min(40, len(points))
    return sorted(trial.rng.sample(points, count))


async def check_between(trial: Trial, storage: JobStorageProvider, scene: Scene, line: int) -> None:
    """See that *scene* was played whole or not at all, and that its key stands if and only if its job does."""
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
    later = NOW + 2 * LEASE
    due = [] if standing is None or standing.status in _ENDED else [standing.tracking_id]
    claimed = await storage.claim_jobs(claim_of(scene.job.queue_id, now=later))
    trial.check.equal(ids_of(claimed.jobs), due, f"{scene.name}, {where}: an unfinished job is not stuck")


_ENDED = frozenset(JobStatus) - {JobStatus.PENDING, JobStatus.RUNNING}


@rule("R89", deadline_seconds=120)
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


@rule("R89", deadline_seconds=120)
async def killed_in_a_batch_a_repeat_does_the_rest(trial: Trial) -> None:
    """A store and a purge of 50 jobs, killed at their lines: the repeat does the rest, nothing is there twice."""
    stepper = await trial.open_stepper()
    whole = await stepper.call(trial.url, "store_jobs", jobs=trial.jobs(50, trial.queue()))
    assert whole.lines is not None
    for line in sample(trial, whole.lines, 5):
        jobs = trial.jobs(50, trial.queue(), expire_on=T0 + SECOND)
        await stepper.call(trial.url, "store_jobs", jobs=jobs, die_at=line)
        where = f"a batch killed at line {line}"

        storage = await trial.open()
        stored = [job is not None for job in [await storage.get_job(tracking_id) for tracking_id in ids_of(jobs)]]
        if trial.offers(Need.ATOMIC_BATCHES):
            trial.check.true(len(set(stored)) == 1, f"{where} is all or nothing", expected="one", seen=sum(stored))
        trial.check.equal(await storage.store_jobs(jobs), ids_of(jobs), f"{where}: the repeat stores all")
        await check_purge_is_finished(trial, stepper, storage, jobs, line)


async def check_purge_is_finished(
    trial: Trial, stepper: Stepper, storage: JobStorageProvider, jobs: list[JobRecord], line: int
) -> None:
    """Kill a purge of *jobs* at about *line*, and see that the next one does the rest."""
    await storage.close()
    queue_ids = frozenset({jobs[0].queue_id})
    stale = StaleJobs(now=T0 + SECOND, keep={JobStatus.EXPIRED: LEASE}, queue_ids=queue_ids)
    await stepper.call(trial.url, "purge_stale_jobs", stale=stale, die_at=line)
    again = await trial.open()
    where = f"a purge killed at line {line}"
    purged = await trial.check.answers(again.purge_stale_jobs(stale), f"{where} can be repeated")
    records = [await again.get_job(tracking_id) for tracking_id in ids_of(jobs)]
    statuses = [None if record is None else record.status for record in records]
    trial.check.counts(statuses, [JobStatus.EXPIRED] * 50, f"{where} marks in the end what is over")
    trial.check.true(purged.deleted == 0, f"{where} deletes nothing of it", expected="0", seen=purged)
    await again.close()


