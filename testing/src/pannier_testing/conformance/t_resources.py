"""Section T: what an operation takes it gives back, and a closed storage has left nothing behind."""

import asyncio
import gc
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from attrs import frozen

from pannier.inspection import JobFilter
from pannier.records import Json, Lease, Payload
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, T0, claim_of
from pannier_testing.conformance.p_payloads import nested_lists
from pannier_testing.lives import live
from pannier_testing.resources import Held
from pannier_testing.rules import Need, rule
from pannier_testing.scenes import NOW, scene_names, scene_of
from pannier_testing.trial import Profile, Trial, inspector_of, notifier_of, results_of, transactional

REPEATS: Final = 20
"""How often what fails is tried on one instance: more often than a pool has connections."""

SPARE: Final = 2
"""By how many descriptors, threads or tasks a pool may have grown meanwhile."""

QUIET_LOOKS: Final = 5
"""After how many looks that saw the same a process is at rest; they are 10 ms apart."""

SOON: Final = timedelta(seconds=5)
"""Within which a call answers that waits for no connection."""

LIVES: Final = 10_000
SETTLED_BY: Final = 2_000
"""From when on nothing may grow: by then caches and pools are full."""

BYTES_A_JOB: Final = 10
RESIDENT_A_JOB: Final = 100

Failing = Callable[[], Awaitable[object]]


@rule("R117", deadline=timedelta(seconds=120))
async def every_operation_gives_back_what_it_took(trial: Trial) -> None:
    """Each operation, and each that fails or is cancelled, many times on one instance: all answer, nothing piles up."""
    storage = await trial.open()
    await _use(trial, storage)
    before = Held.now()

    for _ in range(REPEATS):
        await _fail(trial, storage)
    await _use(trial, storage)

    after = await _held_in_the_end(before, spare=SPARE)
    for kind, count in after.counts.items():
        trial.check.true(
            count <= before.counts[kind] + SPARE,
            f"operations that fail, {REPEATS} times over, leave no {kind} behind",
            expected=f"about {before.counts[kind]}, as before",
            seen=f"{count}; new: {_new(before, after, kind)}",
        )


@rule("R117", deadline=timedelta(seconds=120))
async def a_closed_storage_leaves_nothing_behind(trial: Trial) -> None:
    """An instance is opened, used and closed: no task, thread, descriptor and no ResourceWarning is left of it."""
    fresh = Held.now()
    await _lived(trial)  # what is imported and opened once a process is there from now on
    before = await _held_at_rest()  # counted in what is still closing, a true leak would hide
    trial.check.equal(_new(fresh, before, "threads"), [], "after close() no thread is left")

    lives = [await _lived(trial) for _ in range(3)]

    after = await _held_in_the_end(before)
    for life in lives:
        trial.check.equal(life.tasks, (), "after close() no task is left")
        trial.check.equal(life.warnings, (), "nothing that was open is left for the garbage collector to close")
    for kind, count in after.counts.items():
        trial.check.true(
            count <= before.counts[kind],
            f"after close() no more {kind} are there than before open()",
            expected=f"{before.counts[kind]}",
            seen=f"{count}; new: {_new(before, after, kind)}",
        )


@rule("R118", deadline=timedelta(seconds=400))
async def many_lives_leave_the_process_as_it_was(trial: Trial) -> None:
    """10,000 whole lives of jobs in a process of its own, fewer on slow storages: from 2,000 on nothing grows there."""
    is_soak = trial.profile is Profile.SOAK
    lives, settled = (10 * LIVES, 10 * SETTLED_BY) if is_soak else (LIVES, SETTLED_BY)
    if not trial.is_thorough:
        lives = trial.sized("lives", lives, least=3 * SETTLED_BY, seconds=15.0) // SETTLED_BY * SETTLED_BY
    child = await trial.open_child()

    patience = 350.0 * (10 if is_soak else 1)
    looks: list[dict[str, Any]] = await trial.check.answers(
        child.run(live, patience=patience, lives=lives, every=settled),
        "jobs live, one after another",
        within=timedelta(seconds=patience + 10),
    )

    first, last = looks[0], looks[-1]
    _check_growth(trial, "traced", BYTES_A_JOB, looks)
    for kind in ("descriptors", "threads", "tasks"):
        trial.check.true(
            last[kind] <= first[kind] + SPARE,
            f"{lives} lives of jobs leave no {kind} behind",
            expected=f"about {first[kind]}, as after {first['lives']}",
            seen=[look[kind] for look in looks],
        )
    if is_soak:
        _check_growth(trial, "resident", RESIDENT_A_JOB, looks)


def _check_growth(trial: Trial, what: str, at_most: int, looks: Sequence[Mapping[str, Any]]) -> None:
    first, last = looks[0], looks[-1]
    growth = (last[what] - first[what]) / (last["lives"] - first["lives"])
    trial.sizes[f"{what} bytes a job"] = round(growth)
    trial.check.true(
        growth < at_most,
        f"{what} memory does not grow with the jobs that have lived",
        expected=f"less than {at_most} bytes a job, from the {first['lives']}th to the {last['lives']}th",
        seen=f"{growth:.1f} bytes a job; in all {[look[what] for look in looks]}",
    )


async def _held_at_rest() -> Held:
    """Look until nothing has been given back for a while, or two seconds are over."""
    end = time.monotonic() + 2.0
    held, quiet = Held.now(), 0
    while quiet < QUIET_LOOKS and time.monotonic() < end:
        await asyncio.sleep(0.01)
        seen = Held.now()
        quiet = quiet + 1 if seen == held else 0
        held = seen
    return held


async def _held_in_the_end(before: Held, *, spare: int = 0) -> Held:
    """Look, for up to two seconds while it is more than *before*: a server in this process closes in its time."""
    end = time.monotonic() + 2.0
    held = Held.now()
    while any(count > before.counts[kind] + spare for kind, count in held.counts.items()):
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.01)
        held = Held.now()
    return held


def _new(before: Held, after: Held, kind: str) -> list[str]:
    """Return what *after* has of a kind and *before* had not."""
    known: list[str] = list(getattr(before, kind))
    found: list[str] = []
    for each in getattr(after, kind):
        if each in known:
            known.remove(each)
        else:
            found.append(each)
    return found


async def _use(trial: Trial, storage: JobStorageProvider) -> None:
    """Do each operation once, and each that fails."""
    for name in scene_names(trial):
        scene = await scene_of(trial, storage, name)
        await trial.check.answers(scene.act.on(storage), f"{name}: a connection is there for it", within=SOON)
    await _fail(trial, storage)


async def _fail(trial: Trial, storage: JobStorageProvider) -> None:
    """Do once what fails in each way; each must come to an end, with an error or not: other rules say which."""
    for name, call in (await _failing(trial, storage)).items():
        for attempt in (call, partial(_cancelled, call)):
            await trial.check.answers(_to_the_end(attempt), f"{name}: it comes to an end, each time", within=SOON)


async def _failing(trial: Trial, storage: JobStorageProvider) -> dict[str, Failing]:
    """Return calls that are refused, or that raise, by what they are."""
    job = await trial.started(storage)
    stranger = Lease(trial.tracking_id(), 7)
    deep: Json = nested_lists(3_000)
    last = datetime.max.replace(tzinfo=UTC)
    calls: dict[str, Failing] = {
        "a store of a job that is not new": lambda: storage.store_jobs([trial.job(), job]),
        "a store of a job that is nested deeply": lambda: storage.store_jobs([trial.job(command=deep)]),
        "a claim whose lease never ends": lambda: storage.claim_jobs(claim_of(job.queue_id, now=last)),
        "a renewal of a stranger's lease": lambda: storage.renew_leases([stranger], now=T0, lease_for=LEASE),
        "a renewal past the end of time": lambda: storage.renew_leases([job.lease], now=last, lease_for=LEASE),
        "a settlement under a stranger's lease": lambda: _settle(storage, stranger, None),
        "a settlement with a result that is nested deeply": lambda: _settle(storage, job.lease, Payload(deep)),
        "a cancel of a job that is not there": lambda: storage.cancel_job(stranger.tracking_id, now=T0),
        "a look-up of no id at all": lambda: storage.get_job("no id"),  # type: ignore[arg-type]  # junk
    }
    if trial.offers(Need.RESULTS):
        progress = results_of(storage).store_progress
        calls["progress under a stranger's lease"] = lambda: progress(stranger, Payload(1))
        calls["progress that is nested deeply"] = lambda: progress(job.lease, Payload(deep))
    if trial.offers(Need.INSPECT):
        inspector = inspector_of(storage)
        calls["a listing from a cursor of somebody else's"] = lambda: inspector.find_jobs(JobFilter(), cursor="junk")
        calls["a requeue that has expired already"] = lambda: inspector.requeue_job(
            job.tracking_id, now=NOW, expire_on=T0
        )
    if trial.offers(Need.TRANSACTIONS):
        calls["a settlement in a transaction that is rolled back"] = partial(_settle_in, trial, storage, stranger)
    return calls


async def _settle(storage: JobStorageProvider, lease: Lease, result: Payload | None) -> object:
    return await storage.settle_jobs([Settlement(lease, Succeeded(result))], now=T0)


async def _settle_in(trial: Trial, storage: JobStorageProvider, lease: Lease) -> None:
    async with trial.transaction() as transaction:
        await transactional(storage).settle_jobs_in(transaction, [Settlement(lease, Succeeded())], now=T0)


async def _cancelled(call: Failing) -> None:
    """Make a call and cancel it when it waits for the first time."""
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def _to_the_end(call: Failing) -> None:
    with suppress(Exception):
        await call()


@frozen
class _Life:
    """What was left of an instance: tasks, and what warned as it was collected."""

    tasks: tuple[str, ...]
    warnings: tuple[str, ...]


async def _lived(trial: Trial) -> _Life:
    """Open, use and close an instance on an event loop and thread of its own, which end with it."""
    gc.collect()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ResourceWarning)
        tasks = await asyncio.to_thread(lambda: asyncio.run(_live(trial)))
        gc.collect()
    return _Life(tasks, tuple(str(each.message) for each in heard if issubclass(each.category, ResourceWarning)))


async def _live(trial: Trial) -> tuple[str, ...]:
    storage = trial.subject.create(trial.url)
    threads = Held.now().threads
    await storage.open()
    try:
        await _use(trial, storage)
        if trial.offers(Need.NOTIFY):
            async with notifier_of(storage).listen(frozenset({"mail"})):
                await storage.store_jobs([trial.job()])
    finally:
        await storage.close()
    end = time.monotonic() + 1.0  # a thread that was told to end needs a moment to
    while (held := Held.now()).tasks or len(held.threads) > len(threads):
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.001)
    return held.tasks
