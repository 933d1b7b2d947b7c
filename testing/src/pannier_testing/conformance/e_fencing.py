"""Section E, continued: what has lost its lease writes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from attrs import evolve

from pannier.records import JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, claim_of, failed, ids_of, retry
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of, results_of

HOUR: Final = 60 * MINUTE
OTHER: Final = "worker-2"


async def stale_leases(trial: Trial, storage: JobStorageProvider) -> AsyncIterator[tuple[str, Lease, JobRecord]]:
    """Give, in each way in which a lease becomes stale, the old lease and the job as its new holder has claimed it."""
    job = await trial.started(storage)
    (new,) = await acts.claim(storage, job.queue_id, now=T0 + LEASE, worker=OTHER)
    yield "taken over after it lapsed", job.lease, new
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, Release())
    (new,) = await acts.claim(storage, job.queue_id, now=T0 + LEASE, worker=OTHER)
    yield "claimed again after a release", job.lease, new
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, retry(T0 + SECOND))
    (new,) = await acts.claim(storage, job.queue_id, now=T0 + LEASE, worker="worker-1")
    yield "claimed again by its own worker after a retry", job.lease, new


@rule("R41")
async def a_stale_fence_renews_nothing(trial: Trial) -> None:
    """Renewing a lease that another claim has replaced reports it lost, and leaves the new holder's lease alone."""
    storage, other = await trial.open(), await trial.open()
    async for how, old, new in stale_leases(trial, storage):
        for instance in (storage, other):
            lost = await instance.renew_leases([old], now=T0 + LEASE + SECOND, lease_for=HOUR)
            trial.check.equal(lost, frozenset([old]), f"a stale lease ({how}) is reported lost")
            trial.check.equal(await trial.read(storage, new), [new], "the new holder's lease is unchanged")
        lost = await storage.renew_leases([new.lease], now=T0 + LEASE + SECOND, lease_for=LEASE)
        trial.check.equal(lost, frozenset(), "the new holder can renew")


async def refused_under_stale_fence(trial: Trial, outcome: Outcome) -> None:
    """Check that settling by *outcome* under a stale fence is refused and changes nothing."""
    storage, other = await trial.open(), await trial.open()
    name = type(outcome).__name__
    async for how, old, new in stale_leases(trial, storage):
        for instance in (storage, other):
            refused = await instance.settle_jobs([Settlement(old, outcome)], now=T0 + LEASE + SECOND)
            trial.check.equal(refused, frozenset([old]), f"{name} under a stale lease ({how}) is refused")
            trial.check.equal(await trial.read(storage, new), [new], f"a refused {name} changes nothing")
        taken = await acts.claim(storage, new.queue_id, now=T0 + 2 * LEASE - trial.tick)
        trial.check.equal(taken, [], f"a refused {name} gives the running job to nobody")
        await acts.must_settle(trial.check, storage, new, Succeeded(), now=T0 + LEASE + SECOND)
        (ended,) = await trial.read(storage, new)
        trial.check.equal(ended.status, JobStatus.SUCCEEDED, "the new holder can settle")
        refused = await storage.settle_jobs([Settlement(old, outcome)], now=T0 + LEASE + SECOND)
        trial.check.equal(refused, frozenset([old]), f"{name} under a stale lease is refused after the job's end, too")
        trial.check.equal(await trial.read(storage, new), [ended], "and changes nothing")


@rule("R42")
async def a_stale_fence_cannot_succeed(trial: Trial) -> None:
    """Succeeded under a lease that another claim has replaced is refused and changes nothing."""
    await refused_under_stale_fence(trial, Succeeded())


@rule("R42")
async def a_stale_result_is_not_kept(trial: Trial) -> None:
    """A result under a lease that another claim has replaced is refused; the new holder's stands."""
    await refused_under_stale_fence(trial, Succeeded(Payload("stale")))


@rule("R43")
async def a_stale_fence_cannot_retry(trial: Trial) -> None:
    """Retry under a lease that another claim has replaced is refused, and nothing is queued again."""
    await refused_under_stale_fence(trial, retry(T0 + LEASE))


@rule("R43")
async def a_stale_fence_cannot_fail(trial: Trial) -> None:
    """Failed under a lease that another claim has replaced is refused and changes nothing."""
    await refused_under_stale_fence(trial, failed(T0 + LEASE))


@rule("R43")
async def a_stale_fence_cannot_release(trial: Trial) -> None:
    """Release under a lease that another claim has replaced is refused, and nothing is queued again."""
    await refused_under_stale_fence(trial, Release())


@rule("R44")
async def a_stale_fence_writes_no_progress(trial: Trial) -> None:
    """Progress and results under a lease that another claim has replaced are refused; the new holder's stand."""
    storage = await trial.open()
    results = results_of(storage)
    async for how, old, new in stale_leases(trial, storage):
        about = f"progress under a stale lease ({how}) is refused"
        for progress in (None, Payload("new")):
            if progress is not None:
                is_kept = await results.store_progress(new.lease, progress)
                trial.check.true(is_kept, "the new holder can report", expected="True", seen=is_kept)
            is_kept = await results.store_progress(old, Payload("stale"))
            trial.check.true(not is_kept, about, expected="False", seen=is_kept)
            (seen,) = await trial.read(storage, new)
            trial.check.equal(seen, evolve(new, progress=progress), "refused progress changes nothing")
        refused = await storage.settle_jobs([Settlement(old, Succeeded(Payload("stale")))], now=T0 + LEASE)
        trial.check.equal(refused, frozenset([old]), "a result under a stale lease is refused")
        result = await results.get_job_result(new.tracking_id)
        trial.check.equal(
            result and (result.status, result.progress, result.result),
            (JobStatus.RUNNING, Payload("new"), None),
            "what the new holder has written stands",
        )


@rule("R44")
async def a_lease_that_has_ended_writes_no_progress(trial: Trial) -> None:
    """Progress is refused once its job was settled, cancelled or given back, and under fences that never were."""
    storage = await trial.open()
    results = results_of(storage)
    outcomes: list[Outcome | None] = [Succeeded(Payload(1)), failed(), retry(T0 + SECOND), Release(), None]
    for outcome in outcomes:
        job = await trial.started(storage)
        if outcome is None:
            await storage.cancel_job(job.tracking_id, now=T0)
        else:
            await acts.must_settle(trial.check, storage, job, outcome)
        (before,) = await trial.read(storage, job)
        for fence in (1, 2, 2**40):
            is_kept = await results.store_progress(Lease(job.tracking_id, fence), Payload("late"))
            trial.check.true(not is_kept, f"no progress after {outcome}", expected="False", seen=is_kept)
        trial.check.equal(await trial.read(storage, job), [before], "refused progress changes nothing")


@rule("R44")
async def progress_and_the_end_of_a_lease_agree(trial: Trial) -> None:
    """Progress that is stored while its lease ends is kept or refused, as it says, and undoes nothing."""
    storage, other = await trial.open(), await trial.open()
    # Success clears progress: beside it, progress that comes too late is seen for what it is.
    others: tuple[Outcome | None, ...] = (failed(), retry(T0 + HOUR), Release(), None)
    outcomes = [outcome for other in others for outcome in (other, *[Succeeded(Payload("all"))] * 2)]
    for number, schedule in enumerate(trial.schedules(36)):
        job, outcome = await trial.started(storage), outcomes[number % len(outcomes)]

        async def end(job: JobRecord = job, outcome: Outcome | None = outcome) -> None:
            if outcome is None:
                await acts.cancelled(other, job)
            else:
                await acts.must_settle(trial.check, other, job, outcome)

        is_kept, _ = await trial.check.answers(
            schedule.raced(results_of(storage).store_progress(job.lease, Payload("half")), end()),
            "progress while a lease ends is answered, not raised",
        )

        (after,) = await trial.read(storage, job)
        name = "a cancel" if outcome is None else type(outcome).__name__
        statuses = {Succeeded: JobStatus.SUCCEEDED, Failed: JobStatus.FAILED, type(None): JobStatus.CANCELLED}
        kept = Payload("half") if is_kept and not isinstance(outcome, Succeeded) else None
        trial.check.equal(
            (after.status, after.progress),
            (statuses.get(type(outcome), JobStatus.PENDING), kept),
            f"the record after progress beside {name} is as both answers say",
        )


@rule("R45")
async def lost_leases_are_named_exactly(trial: Trial) -> None:
    """A renewal of good, stale and invented leases names exactly the lost ones, and renews the rest."""
    storage = await trial.open()
    for turn in range(4):
        good = [await trial.started(storage, now=T0) for _ in range(3)]
        taken = [(old, new) async for _, old, new in stale_leases(trial, storage)]
        waiting = await trial.brought_to(storage, JobStatus.PENDING)
        done = await trial.brought_to(storage, JobStatus.SUCCEEDED)
        fine = [*(job.lease for job in good), *(new.lease for _, new in taken)]
        bad = [
            *(old for old, _ in taken),
            evolve(good[0].lease, fence=2),
            evolve(good[1].lease, fence=2**40),
            evolve(taken[0][1].lease, fence=3),
            Lease(waiting.tracking_id, 1),
            done.lease,
            Lease(trial.tracking_id(), 1),
        ]
        leases = [*fine, *bad, *bad, *fine] if turn == 3 else trial.rng.sample([*fine, *bad], len(fine) + len(bad))
        now = T0 + LEASE + SECOND
        lost = await storage.renew_leases(leases, now=now, lease_for=HOUR)

        trial.check.counts(lost, bad, "a renewal names exactly the lost leases, by tracking id and fence")
        held = [*good, *(new for _, new in taken)]
        renewed = [evolve(job, dequeue_after=now + HOUR) for job in held]
        trial.check.equal(await trial.read(storage, *held), renewed, "and renews the rest")
        trial.check.equal(await trial.read(storage, waiting, done), [waiting, done], "and touches nothing else")


@rule("R45")
async def refused_settlements_are_named_exactly(trial: Trial) -> None:
    """A batch of good, stale and invented settlements names exactly the refused leases, and applies the rest."""
    storage = await trial.open()
    for _ in range(3):
        outcomes: list[Outcome] = [Succeeded(), failed(), retry(T0 + HOUR), Release(), Succeeded(Payload({"n": 1}))]
        good = [await trial.started(storage) for _ in outcomes]
        untouched = await trial.started(storage)
        taken = [(old, new) async for _, old, new in stale_leases(trial, storage)]
        waiting = await trial.brought_to(storage, JobStatus.PENDING)
        fine = [
            *(Settlement(job.lease, outcome) for job, outcome in zip(good, outcomes, strict=True)),
            *(Settlement(new.lease, failed()) for _, new in taken),
        ]
        bad = [
            *(Settlement(old, outcome) for (old, _), outcome in zip(taken, outcomes, strict=False)),
            Settlement(evolve(untouched.lease, fence=2), Succeeded()),
            Settlement(evolve(untouched.lease, fence=2**40), Release()),
            Settlement(Lease(waiting.tracking_id, 1), failed()),
            Settlement(Lease(trial.tracking_id(), 1), Succeeded()),
        ]
        batch = trial.rng.sample([*fine, *bad], len(fine) + len(bad))
        refused = await storage.settle_jobs(batch, now=T0 + LEASE)

        expected = [settlement.lease for settlement in bad]
        trial.check.counts(refused, expected, "a batch names exactly the refused leases, by id and fence")
        seen = [job.status for job in await trial.read(storage, *good, *(new for _, new in taken))]
        pending, succeeded, fail = JobStatus.PENDING, JobStatus.SUCCEEDED, JobStatus.FAILED
        statuses = [succeeded, fail, pending, pending, succeeded, fail, fail, fail]
        trial.check.equal(seen, statuses, "and applies the rest")
        trial.check.equal(
            await trial.read(storage, untouched, waiting), [untouched, waiting], "and touches nothing else"
        )


@rule("R45")
async def leases_of_one_job_alone_are_told_apart(trial: Trial) -> None:
    """A batch of nothing but a stale lease and the one that stands, of one job, is answered as any other."""
    storage = await trial.open()
    outcomes: list[Outcome] = [Succeeded(), Succeeded(Payload({"n": 1})), failed(), retry(T0 + HOUR), Release()]
    for outcome in outcomes:
        async for how, old, new in stale_leases(trial, storage):
            both = trial.rng.sample([old, new.lease], 2)
            lost = await storage.renew_leases(both, now=T0 + LEASE, lease_for=LEASE)
            trial.check.equal(lost, frozenset([old]), f"of two leases of one job ({how}) the stale one is lost")
            refused = await storage.settle_jobs([Settlement(lease, outcome) for lease in both], now=T0 + LEASE)
            trial.check.equal(refused, frozenset([old]), f"of two leases of one job ({how}) the stale one is refused")
            (job,) = await trial.read(storage, new)
            trial.check.true(
                job.status is not JobStatus.RUNNING,
                "and the other one settles it",
                expected="settled",
                seen=job.status.value,
            )


@rule("R45")
async def a_large_batch_is_answered_to_its_last_lease(trial: Trial) -> None:
    """Of a large batch, past the usual limits of a statement, every lease is renewed and settled, or named."""
    storage, queue = await trial.open(), trial.queue()
    size = trial.sized("leases of the largest batch", 1_200, least=1_001, seconds=1)
    await storage.store_jobs([trial.job(queue) for _ in range(size)])
    held = await acts.take(storage, claim_of(queue, limit=size))
    trial.check.equal(len(held), size, "as many jobs are claimed as are due")
    first, last = ([Lease(job.tracking_id, job.fence + 1) for job in ends] for ends in (held[:2], held[-2:]))
    half = size // 2
    middle = [evolve(held[half].lease, fence=held[half].fence + 1)]
    fine = [job.lease for job in held]

    for where, stale, leases in (
        ("first", first, [*first, *fine]),
        ("middle", middle, [*fine[:half], *middle, *fine[half:]]),
        ("last", last, [*fine, *last]),
    ):
        lost = await storage.renew_leases(leases, now=T0, lease_for=HOUR)
        trial.check.counts(lost, stale, f"the {where} leases of a large renewal are stale")
    early = await acts.claimed_ids(storage, queue, now=T0 + HOUR - trial.tick, limit=size)
    trial.check.equal(early, [], "all other leases of a large renewal are renewed")

    leases = [*first, *fine[:half], *middle, *fine[half:], *last]
    refused = await storage.settle_jobs([Settlement(lease, Succeeded()) for lease in leases], now=T0)
    stale = [*first, *middle, *last]
    trial.check.counts(refused, stale, "the first, middle and last leases of a large batch of settlements are stale")
    again = await acts.claimed_ids(storage, queue, now=T0 + HOUR, limit=size)
    trial.check.equal(again, [], "all other settlements of a large batch are applied")


@rule("R45", needs=frozenset({Need.INSPECT}))
async def a_lease_from_before_a_requeue_is_lost(trial: Trial) -> None:
    """Once its job was requeued an old lease is refused, also while nobody has claimed the job again."""
    storage = await trial.open()
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, failed())
    await inspector_of(storage).requeue_job(job.tracking_id, now=T0, expire_on=None)
    (before,) = await trial.read(storage, job)
    lost = await storage.renew_leases([job.lease, before.lease], now=T0, lease_for=HOUR)
    trial.check.counts(lost, [job.lease, before.lease], "no lease of a requeued job stands before it is claimed")
    trial.check.equal(await trial.read(storage, job), [before], "and nothing changes")


@rule("R46", deadline=timedelta(seconds=120))
async def a_frozen_process_comes_back_too_late(trial: Trial) -> None:
    """A process that is stopped past its lease, while another one finishes its job, is refused when it goes on."""
    storage, queue = await trial.open(), trial.queue()
    holder, other = await asyncio.gather(trial.open_child(), trial.open_child())
    for outcome in (Succeeded(Payload("stale")), Release(), retry(T0 + SECOND), failed()):
        job = trial.job(queue := trial.queue())
        await storage.store_jobs([job])
        held = await holder.call("claim_jobs", claim=claim_of(queue))
        trial.check.equal(ids_of(held.jobs), [job.tracking_id], "a due job is claimed")
        holder.freeze()
        late = asyncio.ensure_future(
            holder.call("settle_jobs", settlements=[Settlement(held.jobs[0].lease, outcome)], now=T0 + 2 * SECOND)
        )
        try:
            taken = await other.call("claim_jobs", claim=claim_of(queue, now=T0 + LEASE, worker=OTHER))
            trial.check.equal(ids_of(taken.jobs), [job.tracking_id], "another process takes the job over")
            done = [Settlement(taken.jobs[0].lease, Succeeded())]
            refused = await other.call("settle_jobs", settlements=done, now=T0 + LEASE)
            trial.check.equal(refused, frozenset(), "and finishes it")
            (ended,) = await trial.read(storage, job)
        finally:
            holder.thaw()
        name = type(outcome).__name__
        trial.check.equal(await late, frozenset([held.jobs[0].lease]), f"{name} of a frozen process is refused")
        lost = await holder.call("renew_leases", leases=[held.jobs[0].lease], now=T0 + LEASE, lease_for=LEASE)
        trial.check.equal(lost, frozenset([held.jobs[0].lease]), "its lease is lost")
        trial.check.equal(await trial.read(storage, job), [ended], "the effect of the other process stands, once")
