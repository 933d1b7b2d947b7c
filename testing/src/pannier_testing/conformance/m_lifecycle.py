"""Section M: one instance's life on its event loop: blocking, closing, forking, cancelling."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from pannier.errors import PannierError
from pannier.inspection import JobFilter
from pannier.records import JobRecord
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import SECOND, T0, claim_of, ids_of
from pannier_testing.forking import use_in_a_fork
from pannier_testing.rules import Need, rule
from pannier_testing.scenes import NOW, Scene, scene_names, scene_of
from pannier_testing.stepper import folders_of
from pannier_testing.trial import Trial, inspector_of, notifier_of, results_of, transactional
from pannier_testing.watching import ALLOWED, LoopWatch


@rule("R92")
async def no_operation_blocks_the_loop(trial: Trial) -> None:
    """Each operation, and batches of 100, under the eyes of another thread: none holds the loop for 100 ms."""
    storage = await trial.open()
    folders = folders_of(storage)
    for name in scene_names(trial):
        await check_not_blocking(trial, folders, name, partial(_ready, trial, storage, name))
    blocked = [0.0, 0.0, 0.0]
    for number in range(3):
        queue = trial.queue()
        with LoopWatch(folders).watching() as watch:
            jobs = trial.jobs(100, queue)
            await storage.store_jobs(jobs)
            claimed = (await storage.claim_jobs(claim_of(queue, limit=100))).jobs
            await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in claimed], now=T0)
        blocked[number] = watch.longest
    trial.check.true(
        sorted(blocked)[1] <= ALLOWED,
        "batches of 100 hold the loop for 100 ms at most",
        expected="0.1 s, in two of three repeats",
        seen=f"{blocked} s",
    )


@rule("R92")
async def neither_opening_nor_looking_blocks_the_loop(trial: Trial) -> None:
    """Opening, closing, listening and all that only looks, under the same eyes: none holds the loop for 100 ms."""
    storage = await trial.open()
    folders = folders_of(storage)
    calls = looks(trial, storage, await trial.started(storage)) | {"read the clock": storage.read_clock}
    for name, call in calls.items():
        await check_not_blocking(trial, folders, name, partial(_same, call))
    if trial.offers(Need.TRANSACTIONS):
        await check_not_blocking(trial, folders, "store in a transaction", partial(_same, partial(_store_in, trial)))
    other = trial.create()
    for name in ("open", "close"):  # again and again: both are fine when it is done
        await check_not_blocking(trial, folders, name, partial(_same, getattr(other, name)))


Call = Callable[[], Awaitable[object]]


def looks(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> dict[str, Call]:
    """Return, by what they do, the calls of *storage* that change nothing: about *job*, its queue, and all."""
    calls: dict[str, Call] = {"get a job": partial(storage.get_job, job.tracking_id)}
    if trial.offers(Need.RESULTS):
        calls["get a result"] = partial(results_of(storage).get_job_result, job.tracking_id)
    if trial.offers(Need.INSPECT):
        calls["find jobs"] = partial(inspector_of(storage).find_jobs, JobFilter())
        calls["count jobs"] = partial(inspector_of(storage).count_jobs, JobFilter())
    if trial.offers(Need.NOTIFY):
        calls["listen"] = partial(_listen, storage, job.queue_id)
    return calls


async def _listen(storage: JobStorageProvider, queue_id: str) -> None:
    async with notifier_of(storage).listen(frozenset({queue_id})):
        pass


async def _store_in(trial: Trial) -> None:
    storage = await trial.open()
    async with trial.transaction() as transaction:
        await transactional(storage).store_jobs_in(transaction, [trial.job()])


async def _same(call: Call) -> Call:
    return call


async def _ready(trial: Trial, storage: JobStorageProvider, name: str) -> Call:
    return partial((await scene_of(trial, storage, name)).act.on, storage)


async def check_not_blocking(
    trial: Trial, folders: frozenset[str], name: str, prepare: Callable[[], Awaitable[Call]]
) -> None:
    """Make the call up to three times, each newly prepared: one that blocks does so at least twice."""
    blocks: list[str] = []
    for _ in range(3):
        call = await prepare()
        with LoopWatch(folders).watching() as watch:
            await call()
        if watch.longest <= ALLOWED:
            break
        blocks.append(f"{watch.longest:.2f} s in {watch.where}")
    trial.check.true(len(blocks) < 2, f"{name}: the loop is held for 100 ms at most", expected="0.1 s", seen=blocks)


@rule("R93")
async def opening_and_closing_twice_is_fine(trial: Trial) -> None:
    """Opened twice an instance works; closed twice it is closed, and every use then is a clear error."""
    storage = trial.create()
    job = trial.job()
    await trial.check.raises(PannierError, storage.get_job(job.tracking_id), "use before open() is a clear error")
    await storage.open()
    await trial.check.answers(storage.open(), "a second open() is fine")
    trial.check.equal(await storage.store_jobs([job]), [job.tracking_id], "an instance that was opened twice works")
    other = await trial.open()
    scenes = [await scene_of(trial, other, name) for name in scene_names(trial)]

    await trial.check.answers(storage.close(), "close() raises nothing")
    await trial.check.raises(PannierError, storage.get_job(job.tracking_id), "one close() is enough, after two open()")
    await trial.check.answers(storage.close(), "a second close() is fine")

    for name, look in looks(trial, storage, job).items():
        await trial.check.raises(PannierError, look(), f"{name}, after close(): a clear error")

    for scene in scenes:
        promise = f"{scene.name}, after close(): a clear error"
        await trial.check.raises(PannierError, scene.act.on(storage), promise)
        seen = await other.get_job(scene.job.tracking_id)
        trial.check.equal(seen, scene.before, f"{scene.name}, after close(): it was not done")


@rule("R93")
async def a_forked_child_harms_nobody(trial: Trial) -> None:
    """A process forks while it holds the storage: the fork gets a clear error or works, closes, and harms nobody."""
    if not hasattr(os, "fork"):
        return
    child = await trial.open_child()
    job = trial.job()
    await child.call("store_jobs", jobs=[job])

    told: Any = await trial.check.answers(
        child.run(use_in_a_fork, tracking_id=str(job.tracking_id)), "a process that forks goes on"
    )

    trial.check.true(
        told["there"] in {"works", "raises a clear error"},
        "in a fork, a storage raises a clear error or works, and can be closed",
        expected="one of both, and an end of close()",
        seen=told["there"],
    )
    trial.check.equal(told["here"], "works", "the process that forked works on")


@rule("R94", deadline=timedelta(seconds=180))
async def cancelled_anywhere_an_operation_leaves_nothing_behind(trial: Trial) -> None:
    """Each operation, cancelled at every suspension: it was done or not, its repeat does it, and nothing is stuck."""
    storage = await trial.open()
    for name in scene_names(trial):
        await trial.check.answers(
            cancel_everywhere(trial, storage, name),
            f"{name}, cancelled: the storage goes on",
            within=timedelta(minutes=1),
        )
    await check_nothing_is_held(trial, storage)


@rule("R94", deadline=timedelta(seconds=180))
async def a_look_that_is_cancelled_leaves_nothing_behind(trial: Trial) -> None:
    """Whatever only looks, or listens, cancelled at every suspension: asked again it answers, and nothing is stuck."""
    storage = await trial.open()
    for name, look in looks(trial, storage, await trial.started(storage)).items():
        async for cut in trial.cancelled_everywhere(look):
            await trial.check.answers(
                look(),
                f"{name}, cancelled at suspension {cut.point} ({cut.moment}): it can be done again",
                within=timedelta(seconds=10),
            )
    await check_nothing_is_held(trial, storage)


async def cancel_everywhere(trial: Trial, storage: JobStorageProvider, name: str) -> None:
    """Cancel the operation of the scene called *name* at each suspension, each time on another job."""
    scene = await scene_of(trial, storage, name)
    make = partial(_play, storage, playing := [scene])
    async for cut in trial.cancelled_everywhere(make):
        where = f"cancelled at suspension {cut.point} ({cut.moment})"
        soon = timedelta(seconds=10)
        await trial.check.answers(
            playing[0].is_done(storage, trial.check, where), f"{name}, {where}: the next call answers", within=soon
        )
        await trial.check.answers(playing[0].act.on(storage), f"{name}, {where}: it can be done again", within=soon)
        seen = await storage.get_job(playing[0].job.tracking_id)
        trial.check.equal(seen, playing[0].after, f"{name}, {where}: its repeat does it")
        playing[0] = await scene_of(trial, storage, name)


async def _play(storage: JobStorageProvider, playing: list[Scene]) -> object:
    return await playing[0].act.on(storage)


async def check_nothing_is_held(trial: Trial, storage: JobStorageProvider) -> None:
    """See that many calls at once, and another instance, get what they need."""
    queue = trial.queue()
    jobs = trial.jobs(20, queue)
    calls = asyncio.gather(*(storage.store_jobs([job]) for job in jobs))
    await trial.check.answers(calls, "after all cancellations twenty calls at once get their connections")
    other = await trial.check.answers(trial.open(), "after all cancellations another instance opens")
    claimed = await trial.check.answers(
        other.claim_jobs(claim_of(queue, limit=30, now=NOW + SECOND)), "after all cancellations no lock is left"
    )
    trial.check.counts(ids_of(claimed.jobs), ids_of(jobs), "after all cancellations another instance gets every job")
