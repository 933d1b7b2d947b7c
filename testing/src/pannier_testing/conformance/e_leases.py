"""Section E: a lease ends when it says, and what lost it writes nothing."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from attrs import evolve

from pannier.instants import round_up
from pannier.records import JobStatus
from pannier.settlements import Outcome, Release, Succeeded
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, failed, full_job, ids_of, retry
from pannier_testing.rules import rule
from pannier_testing.trial import Trial

HOUR: Final = 60 * MINUTE
OTHER: Final = "worker-2"


def spans(trial: Trial) -> list[timedelta]:
    """Return lengths of leases, from the shortest to days."""
    return [
        trial.tick,
        2 * trial.tick,
        SECOND / 4,
        SECOND - trial.tick,
        SECOND,
        SECOND * 1.5,
        LEASE,
        50 * HOUR + trial.tick,
    ]


@rule("R37")
async def a_lease_holds_until_its_end(trial: Trial) -> None:
    """A job that is leased until T is hidden one tick before T and can be claimed at T, however short the lease."""
    storage = await trial.open()
    for begins in (T0, T0 + SECOND / 2 + 3 * trial.tick):
        for span in spans(trial):
            ends = round_up(begins + span, trial.tick)
            job = trial.job(trial.queue(), execute_after=begins)
            await storage.store_jobs([job])
            (held,) = await acts.claim(storage, job.queue_id, now=begins, lease_for=span)
            trial.check.equal(held.dequeue_after, ends, f"a lease for {span} ends then")
            for now in (begins, ends - trial.tick):
                early = await acts.claim(storage, job.queue_id, now=now, worker=OTHER)
                trial.check.equal(early, [], f"a job leased at {begins} for {span} is hidden at {now}")
            again = await acts.claim(storage, job.queue_id, now=ends, worker=OTHER)
            trial.check.equal(
                ids_of(again), [job.tracking_id], f"a job leased at {begins} for {span} is claimable then"
            )


@rule("R37")
async def a_renewed_lease_holds_until_its_end(trial: Trial) -> None:
    """A lease that was renewed until T holds until T, neither shorter nor longer."""
    storage = await trial.open()
    for span in spans(trial):
        job = await trial.started(storage)
        now = T0 + LEASE / 2
        await acts.renew(storage, job, now=now, lease_for=span)
        ends = round_up(now + span, trial.tick)
        early = await acts.claim(storage, job.queue_id, now=ends - trial.tick, worker=OTHER)
        trial.check.equal(early, [], f"a job whose lease was renewed for {span} is hidden one tick before its end")
        again = await acts.claim(storage, job.queue_id, now=ends, worker=OTHER)
        trial.check.equal(
            ids_of(again), [job.tracking_id], f"a job whose lease was renewed for {span} is claimable then"
        )


@rule("R38")
async def a_lapsed_lease_is_taken_over(trial: Trial) -> None:
    """A job whose lease has lapsed is claimed by another worker, with the next attempt, fence and lapse."""
    storage, other = await trial.open(), await trial.open()
    full = full_job(trial.tracking_id(), trial.queue())
    for job in (
        await trial.started(storage, full, now=T0 + 2 * SECOND),
        await acts.tried_twice(trial, storage),
    ):
        expected, now = job, job.dequeue_after
        for number, instance in enumerate((other, storage, other), start=2):
            taken = await acts.claim(instance, job.queue_id, now=now, worker=f"worker-{number}")
            expected = evolve(
                expected,
                attempt=expected.attempt + 1,
                fence=expected.fence + 1,
                lapses=expected.lapses + 1,
                worker_id=f"worker-{number}",
                dequeue_after=now + LEASE,
            )
            trial.check.equal(taken, [expected], "a lapsed lease is taken over with the next attempt, fence and lapse")
            trial.check.equal(await trial.read(storage, job), [expected], "and so it is stored")
            now += LEASE + number * SECOND


@rule("R38")
async def a_lease_lapses_however_late_one_looks(trial: Trial) -> None:
    """Leases end by themselves: long after, by whoever asks first, and for a worker of the same name."""
    storage = await trial.open()
    for later in (LEASE, LEASE + trial.tick, HOUR, 9999 * HOUR):
        job = await trial.started(storage)
        taken = await acts.claim(storage, job.queue_id, now=T0 + later)
        seen = [(other.tracking_id, other.attempt, other.fence, other.lapses) for other in taken]
        trial.check.equal(seen, [(job.tracking_id, 2, 2, 1)], f"a lease of {LEASE} has lapsed {later} later")


@rule("R39")
async def a_renewal_sets_the_end_and_nothing_else(trial: Trial) -> None:
    """A renewal sets the end of the lease to now + lease_for, later or earlier than before, and changes no more."""
    storage, other = await trial.open(), await trial.open()
    full = full_job(trial.tracking_id(), trial.queue())
    held = [await trial.started(storage, full, now=T0 + 2 * SECOND), await acts.tried_twice(trial, storage)]
    neighbours = [await trial.started(storage), await trial.brought_to(storage, JobStatus.PENDING)]
    past_any_expiry = 90_000
    for job in held:
        for number, (after, lease_for) in enumerate(
            [(0, 30), (10, 30), (10, 30), (11, 5), (12, 600), (13, 1), (13.5, 0.25), (13.6, past_any_expiry), (14, 30)]
        ):
            now, span = job.dequeue_after - LEASE + after * SECOND, lease_for * SECOND
            lost = await (storage, other)[number % 2].renew_leases([job.lease], now=now, lease_for=span)
            trial.check.equal(lost, frozenset(), "a lease that stands is renewed")
            renewed = evolve(job, dequeue_after=now + span)
            trial.check.equal(
                await trial.read(storage, job), [renewed], "a renewal sets the end to now + lease_for, no more"
            )
            hidden = await acts.claim(storage, job.queue_id, now=now + span - trial.tick, worker=OTHER)
            trial.check.equal(hidden, [], "a renewed lease keeps its job hidden")
    trial.check.equal(await trial.read(storage, *neighbours), neighbours, "a renewal leaves all other jobs as they are")


@rule("R39")
async def many_leases_are_renewed_together(trial: Trial) -> None:
    """A batch of leases of several queues is renewed as a whole."""
    storage, queues = await trial.open(), [trial.queue() for _ in range(3)]
    await storage.store_jobs([job for queue in queues for job in trial.jobs(40, queue)])
    held = await trial.drain(storage, *queues)

    lost = await storage.renew_leases([job.lease for job in held[:90]], now=T0 + SECOND, lease_for=HOUR)

    trial.check.equal(lost, frozenset(), "leases that stand are renewed")
    lapsed = await trial.drain(storage, *queues, now=T0 + LEASE)
    trial.check.counts(ids_of(lapsed), ids_of(held[90:]), "what was renewed is hidden, the rest has lapsed")


OUTCOMES: Final[Sequence[Outcome]] = (
    Succeeded(),
    failed(T0 + LEASE),
    retry(T0 + 2 * LEASE, at=T0 + LEASE),
    Release(),
)


@rule("R40")
async def a_lapsed_lease_that_nobody_took_still_counts(trial: Trial) -> None:
    """After its lease has lapsed the holder can renew and settle, as long as nobody has taken the job over."""
    storage = await trial.open()
    for later in (LEASE, LEASE + trial.tick, 9 * HOUR):
        now = T0 + later
        job = await trial.started(storage)
        lost = await storage.renew_leases([job.lease], now=now, lease_for=LEASE)
        trial.check.equal(lost, frozenset(), f"a lease that lapsed can be renewed {later} later")
        (renewed,) = await trial.read(storage, job)
        trial.check.equal(renewed, evolve(job, dequeue_after=now + LEASE), "and is as good as any other")
        trial.check.equal(
            await acts.claim(storage, job.queue_id, now=now), [], "a lapsed lease that is renewed hides again"
        )
        for outcome in OUTCOMES:
            job = await trial.started(storage)
            await acts.must_settle(trial.check, storage, job, outcome, now=now)
            (settled,) = await trial.read(storage, job)
            trial.check.true(
                settled.status is not JobStatus.RUNNING,
                f"{type(outcome).__name__} under a lease that lapsed is applied",
                expected="another status",
                seen=settled.status,
            )


@rule("R40")
async def a_lapsed_lease_does_not_count_once_its_job_has_expired(trial: Trial) -> None:
    """A purge that marks a lapsed job EXPIRED ends its lease: renewing and settling are refused."""
    storage = await trial.open()
    for outcome in (*OUTCOMES, None):
        queue = trial.queue()
        job = await trial.started(storage, trial.job(queue, expire_on=T0 + LEASE / 2))
        now = T0 + LEASE
        trial.check.equal(
            (await acts.purge(storage, now=now - trial.tick, queue_ids=frozenset([queue]))).expired,
            0,
            "a live lease is not ended by its job's expiry",
        )
        await acts.purge(storage, now=now, queue_ids=frozenset([queue]))
        expired = evolve(job, status=JobStatus.EXPIRED, finished_at=now)
        trial.check.equal(await trial.read(storage, job), [expired], "a lapsed lease past its expiry is marked EXPIRED")
        if outcome is None:
            trial.check.true(
                not await acts.renew(storage, job, now=now), "its lease is lost", expected="lost", seen="kept"
            )
        else:
            is_applied = await acts.settle(storage, job, outcome, now=now)
            trial.check.true(
                not is_applied, f"{type(outcome).__name__} is refused", expected="refused", seen="accepted"
            )
        trial.check.equal(await trial.read(storage, job), [expired], "and nothing changes")


@rule("R40")
async def a_lapsed_lease_past_its_expiry_counts_until_it_is_marked(trial: Trial) -> None:
    """A job past its expiry whose lease has lapsed is settled by its holder, unless a claim has marked it EXPIRED."""
    storage = await trial.open()
    for outcome, status in (
        (Succeeded(), JobStatus.SUCCEEDED),
        (failed(T0 + LEASE), JobStatus.FAILED),
        (Release(), JobStatus.PENDING),
    ):
        for is_claimed_between in (False, True):
            job = await trial.started(storage, trial.job(trial.queue(), expire_on=T0 + LEASE / 2))
            if is_claimed_between:
                taken = await trial.drain(storage, job.queue_id, now=T0 + LEASE)
                trial.check.equal(taken, [], "a job past its expiry is not claimed")
            (before,) = await trial.read(storage, job)
            is_applied = await acts.settle(storage, job, outcome, now=T0 + LEASE)
            trial.check.equal(
                is_applied,
                before.status is JobStatus.RUNNING,
                "the lease counts until the job is marked EXPIRED, not after",
            )
            (after,) = await trial.read(storage, job)
            expected = status if is_applied else JobStatus.EXPIRED
            trial.check.equal(after.status, expected, "the answer agrees with what became of the job")


@rule("R47", deadline=timedelta(seconds=120))
async def all_leases_of_a_dead_worker_lapse(trial: Trial) -> None:
    """Thousands of leases lapse at their end with nobody sweeping, for any instance."""
    storage, queue = await trial.open(), trial.queue()
    count = trial.sized("lapsed leases", 5_000, least=300, seconds=1.5)
    stored = trial.jobs(count, queue)
    await storage.store_jobs(stored)
    held = await trial.drain(storage, queue, limit=1_000, worker="dead")
    trial.check.counts(ids_of(held), ids_of(stored), "all jobs can be leased")

    other = await trial.open()
    await storage.close()
    early = await acts.claim(other, queue, now=T0 + LEASE - trial.tick)
    trial.check.equal(early, [], "no lease lapses before its end")
    taken = await trial.drain(other, queue, now=T0 + LEASE, limit=1_000)
    trial.check.counts(ids_of(taken), ids_of(stored), "all leases of a dead worker lapse with no manual sweep")


@rule("R47")
async def a_renewal_keeps_one_job_only(trial: Trial) -> None:
    """Renewing one lease of a worker keeps no other job of that worker alive."""
    storage, queues = await trial.open(), [trial.queue(), trial.queue()]
    await storage.store_jobs([job for queue in queues for job in trial.jobs(10, queue)])
    held = await trial.drain(storage, *queues, worker="dead")
    kept = [held[0], held[-1]]

    for after in range(0, 120, 20):
        now = T0 + after * SECOND
        lost = await storage.renew_leases([job.lease for job in kept], now=now, lease_for=LEASE)
        trial.check.equal(lost, frozenset(), "leases that are renewed in time stand")

    taken = await trial.drain(storage, *queues, now=T0 + 101 * SECOND, worker=OTHER)
    trial.check.counts(
        ids_of(taken), set(ids_of(held)) - set(ids_of(kept)), "a renewal keeps no other job of its worker alive"
    )
