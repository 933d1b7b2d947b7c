"""
One call on one job, as data: what a crash, a cancellation or a lost reply is tried on.

A `Scene` knows the job's record before the call and after it, the latter from the reference model. Whatever interrupts
the call, one of the two must stand.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final

from attrs import evolve, frozen

from pannier.claims import Claim
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, failed, retry
from pannier_testing.checks import Checks, same, show
from pannier_testing.reference.model import Model
from pannier_testing.rules import Need
from pannier_testing.trial import Trial

NOW: Final = T0 + 60 * SECOND
"""When the calls of all scenes are made."""


@frozen
class Act:
    """One call of a verb, on a storage or on the model."""

    verb: str
    arguments: Mapping[str, object]

    async def on(self, storage: JobStorageProvider) -> object:
        """Make the call, and return the storage's answer."""
        answer: object = await getattr(storage, self.verb)(**self.arguments)
        return answer

    def on_model(self, model: Model) -> object:
        """Do the same to the model, and return its answer."""
        called: Callable[..., object] = _ON_MODEL[self.verb]
        return called(model, **self.arguments)


_ON_MODEL: Final[Mapping[str, Callable[..., object]]] = {
    "store_jobs": lambda model, jobs: model.store(jobs),
    "claim_jobs": lambda model, claim: model.claim(claim),
    "renew_leases": lambda model, leases, now, lease_for: model.renew(leases, now, lease_for),
    "settle_jobs": lambda model, settlements, now: model.settle(settlements, now),
    "cancel_job": lambda model, tracking_id, now: model.cancel(tracking_id, now),
    "get_job": lambda model, tracking_id: model.get(tracking_id),
    "purge_stale_jobs": lambda model, stale: model.purge(stale),
    "store_progress": lambda model, lease, progress: model.report(lease, progress),
    "get_job_result": lambda model, tracking_id: model.result(tracking_id),
    "requeue_job": lambda model, tracking_id, now, expire_on: model.requeue(tracking_id, now, expire_on),
}


@frozen(kw_only=True)
class Scene:
    """
    A call that is about to be made on one job.

    Attributes:
        name: What is done, in words.
        act: The call.
        job: The job as it was made.
        before: Its record now; None: not stored yet.
        after: Its record once the call was made; None: deleted.
    """

    name: str
    act: Act
    job: JobRecord
    before: JobRecord | None
    after: JobRecord | None

    async def is_done(self, storage: JobStorageProvider, check: Checks, when: str) -> bool:
        """Check that the record is that of before or of after the call, and return whether it is the latter."""
        seen = await storage.get_job(self.job.tracking_id)
        check.true(
            same(seen, self.before) or same(seen, self.after),
            f"{self.name}, {when}: the job is as before the call or as after it, never between",
            expected=f"{show(self.before)}\n      or        {show(self.after)}",
            seen=seen,
        )
        return same(seen, self.after)


Prepare = Callable[[Trial, JobStorageProvider, JobRecord], Awaitable[Act]]


async def scene_of(trial: Trial, storage: JobStorageProvider, name: str) -> Scene:
    """Prepare the scene called *name* with a new job, alone in a queue of its own."""
    job = trial.job(trial.queue(), key=f"key {trial.rng.random()}", command={"text": "x" * 50})
    act = await SCENES[name](trial, storage, job)
    before = await storage.get_job(job.tracking_id)
    model = model_of([] if before is None else [before], trial.tick)
    act.on_model(model)
    return Scene(name=name, act=act, job=job, before=before, after=model.get(job.tracking_id))


def model_of(jobs: Iterable[JobRecord], grid: timedelta) -> Model:
    """Return a model that holds *jobs* as they are."""
    model = Model(grid)
    for job in jobs:
        model.put(job)
        if job.idempotency_key is not None:
            model.keys[job.queue_id, job.idempotency_key] = job.tracking_id
    return model


def scene_names(trial: Trial) -> list[str]:
    """Return the names of all scenes that the storage can play."""
    needs = {"report progress": Need.RESULTS, "requeue a failed job": Need.INSPECT}
    return [name for name in SCENES if name not in needs or trial.offers(needs[name])]


async def _store(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    return Act("store_jobs", {"jobs": [job]})


async def _claim(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    await storage.store_jobs([job])
    return Act("claim_jobs", {"claim": _claim_at_now(job)})


async def _reclaim(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    await storage.store_jobs([job])
    await storage.claim_jobs(claim_of(job.queue_id, now=T0, lease_for=SECOND))
    return Act("claim_jobs", {"claim": _claim_at_now(job)})


async def _renew(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    return Act("renew_leases", {"leases": [await _lease(trial, storage, job)], "now": NOW, "lease_for": LEASE})


async def _succeed(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    result = Payload({"sent": True}) if trial.offers(Need.RESULTS) else None
    return await _settle(trial, storage, job, Succeeded(result))


async def _retry(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    return await _settle(trial, storage, job, retry(NOW + 5 * SECOND, at=NOW))


async def _fail(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    return await _settle(trial, storage, job, failed(NOW))


async def _release(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    return await _settle(trial, storage, job, Release())


async def _cancel(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    await _lease(trial, storage, job)
    return Act("cancel_job", {"tracking_id": job.tracking_id, "now": NOW})


async def _delete(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    lease = await _lease(trial, storage, job)
    await storage.settle_jobs([Settlement(lease, Succeeded())], now=NOW - SECOND)
    return _purge(job)


async def _expire(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    await storage.store_jobs([evolve(job, expire_on=NOW)])
    return _purge(job)


async def _report(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    return Act("store_progress", {"lease": await _lease(trial, storage, job), "progress": Payload({"done": 0.5})})


async def _requeue(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Act:
    lease = await _lease(trial, storage, job)
    await storage.settle_jobs([Settlement(lease, failed(NOW))], now=NOW)
    return Act("requeue_job", {"tracking_id": job.tracking_id, "now": NOW, "expire_on": None})


async def _settle(trial: Trial, storage: JobStorageProvider, job: JobRecord, outcome: Outcome) -> Act:
    lease = await _lease(trial, storage, job)
    return Act("settle_jobs", {"settlements": [Settlement(lease, outcome)], "now": NOW})


async def _lease(trial: Trial, storage: JobStorageProvider, job: JobRecord) -> Lease:
    return (await trial.started(storage, job, now=NOW - SECOND)).lease


def _claim_at_now(job: JobRecord) -> Claim:
    return claim_of(job.queue_id, now=NOW)


def _purge(job: JobRecord) -> Act:
    keep = {JobStatus.SUCCEEDED: timedelta(0)}
    return Act("purge_stale_jobs", {"stale": StaleJobs(now=NOW, keep=keep, queue_ids=frozenset({job.queue_id}))})


SCENES: Final[Mapping[str, Prepare]] = {
    "store a job": _store,
    "claim a job": _claim,
    "claim a job whose lease lapsed": _reclaim,
    "renew a lease": _renew,
    "settle a job as succeeded": _succeed,
    "settle a job for a retry": _retry,
    "settle a job as failed": _fail,
    "release a job": _release,
    "cancel a running job": _cancel,
    "purge a finished job": _delete,
    "purge an expired job": _expire,
    "report progress": _report,
    "requeue a failed job": _requeue,
}
"""What can be done to one job, by name, and how it is prepared."""
