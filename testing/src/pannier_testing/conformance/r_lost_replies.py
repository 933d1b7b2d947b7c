"""Section R: the server did what it was asked, and its reply is lost."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from pannier.errors import StorageError
from pannier.records import JobRecord, JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, T0, claim_of, ids_of
from pannier_testing.checks import InconclusiveError
from pannier_testing.outages import (
    TIMEOUT,
    answer_of,
    bytes_of,
    mended,
    proxied,
)
from pannier_testing.proxy import FaultProxy
from pannier_testing.rules import rule
from pannier_testing.scenes import Scene, model_of, scene_of
from pannier_testing.trial import Trial

REPEATED: Final = (
    "store a job",
    "settle a job as succeeded",
    "settle a job for a retry",
    "settle a job as failed",
    "release a job",
    "cancel a running job",
)
"""What a caller repeats when he gets no answer."""


@rule("R111", deadline=timedelta(seconds=120))
async def the_repeat_after_a_lost_reply_has_no_effect(trial: Trial) -> None:
    """The server has done it, and its reply is cut off, or comes too late: the repeat is answered like the first."""
    direct = await trial.open()
    async with proxied(trial, TIMEOUT) as (proxy, storage):
        for name in REPEATED:
            await _lose_replies(trial, proxy, direct, storage, name, "reset_after_received")
        for name in ("store a job", "settle a job as succeeded", "cancel a running job"):
            await _lose_replies(trial, proxy, direct, storage, name, "mute_after_received")


async def _lose_replies(
    trial: Trial, proxy: FaultProxy, direct: JobStorageProvider, storage: JobStorageProvider, name: str, fault: str
) -> None:
    """Lose the last byte of the reply, then more of it, until the call was done and its reply lost."""
    _, received = await bytes_of(trial, proxy, direct, storage, name)
    back = 1
    while back < 2 * received:
        scene = await scene_of(trial, direct, name)
        is_lost = await _lose_reply(trial, proxy, direct, storage, scene, {fault: max(0, received - back)})
        if is_lost:
            return
        back *= 2
    raise InconclusiveError(f"no reply to {name!r} could be lost after the server had done it ({fault})")


async def _lose_reply(
    trial: Trial,
    proxy: FaultProxy,
    direct: JobStorageProvider,
    storage: JobStorageProvider,
    scene: Scene,
    faults: Mapping[str, object],
) -> bool:
    """Lose the reply to *scene*, repeat it, and see that nothing more came of it; return whether it was lost."""
    how = "cut off" if "reset_after_received" in faults else "held back"
    where = f"to {scene.name}, its reply {how}"
    model = model_of([] if scene.before is None else [scene.before], trial.tick)
    expected = scene.act.on_model(model)
    proxy.set(**faults)
    strikes = proxy.strikes
    await trial.check.answers(answer_of(scene.act.on(storage)), f"{where}: an answer, or StorageUnavailableError")
    is_lost = proxy.strikes > strikes
    proxy.heal()
    is_done = await scene.is_done(direct, trial.check, where)
    for which in ("the repeat", "the repeat of the repeat"):
        again = await mended(trial, lambda: scene.act.on(storage), where)
        trial.check.equal(again, expected, f"{where}: {which} is answered like a call whose reply arrives")
    trial.check.equal(
        await direct.get_job(scene.job.tracking_id), scene.after, f"{where}: all repeats have one effect together"
    )
    twin = trial.job(scene.job.queue_id, key=scene.job.idempotency_key)
    stored = await mended(trial, lambda: storage.store_jobs([twin]), where)
    trial.check.equal(stored, [scene.job.tracking_id], f"{where}: the key of the job names that job, and no other")
    return is_lost and is_done


@rule("R112", deadline=timedelta(seconds=120))
async def jobs_of_a_claim_whose_reply_is_lost_come_back(trial: Trial) -> None:
    """The reply of a claim is lost at any of its bytes, or held back: after one lease every job is there, once."""
    direct = await trial.open()
    async with proxied(trial, TIMEOUT) as (proxy, storage):
        claim = "a claim of 5 jobs"
        for _ in range(2):
            jobs = trial.jobs(5, trial.queue())
            await direct.store_jobs(jobs)
            proxy.heal()
            await mended(trial, lambda: storage.claim_jobs(claim_of(jobs[0].queue_id, limit=5)), claim)  # noqa: B023
        received = proxy.received
        between = {trial.rng.randrange(received) for _ in range(trial.scaled(4))}
        positions = sorted({0, received // 2, received - 1, *between})
        cases = [
            *(("reset_after_received", position) for position in positions),
            ("mute_after_received", received // 2),
        ]
        leased = [await _lose_claim(trial, proxy, direct, storage, fault, position) for fault, position in cases]
    if not any(leased):
        raise InconclusiveError(f"of {len(leased)} claims none had leased its jobs before its reply was lost")


async def _lose_claim(
    trial: Trial, proxy: FaultProxy, direct: JobStorageProvider, storage: JobStorageProvider, fault: str, position: int
) -> bool:
    """Lose the reply of a claim after so many bytes; return whether the server had leased the jobs."""
    where = f"a claim whose reply is {'cut off' if fault.startswith('reset') else 'held back'} after {position} bytes"
    queue = trial.queue()
    jobs = trial.jobs(5, queue)
    await direct.store_jobs(jobs)
    proxy.set(**{fault: position})
    call = answer_of(storage.claim_jobs(claim_of(queue, limit=5)))
    answer = await trial.check.answers(call, f"{where}: an answer, or StorageUnavailableError")
    proxy.heal()
    seen = [job for job in [await direct.get_job(job.tracking_id) for job in jobs] if job is not None]
    trial.check.counts(ids_of(seen), ids_of(jobs), f"{where}: every job is there still")
    is_leased = isinstance(answer, StorageError) and any(job.status is JobStatus.RUNNING for job in seen)
    again = await trial.drain(direct, queue, now=T0 + LEASE)
    trial.check.counts(ids_of(again), ids_of(jobs), f"{where}: after one lease every job can be claimed")
    for before, after in zip(sorted(jobs, key=_by_id), sorted(again, key=_by_id), strict=True):
        trial.check.equal(after.command, before.command, f"{where}: a job comes back whole")
        fences = (after.fence, after.attempt, after.lapses)
        trial.check.true(
            fences in {(n, n, n - 1) for n in (1, 2, 3)},  # a driver may try once more by itself
            f"{where}: the lost lease counts as a lapse, and one that was never given does not",
            expected="fence, attempt and lapses of 1, 1, 0 or one more for each claim that the server saw",
            seen=fences,
        )
    done = [Settlement(job.lease, Succeeded()) for job in again]
    refused = await mended(trial, lambda: storage.settle_jobs(done, now=T0 + LEASE), where)
    trial.check.equal(refused, frozenset(), f"{where}: whoever claims the jobs then can settle them")
    return is_leased


def _by_id(job: JobRecord) -> Any:
    return job.tracking_id
