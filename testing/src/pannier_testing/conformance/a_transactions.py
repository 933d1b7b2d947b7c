"""Sections A and E, where "transactions" is offered: storing and settling in the caller's own transaction."""

from datetime import timedelta

from attrs import evolve

from pannier.errors import LeaseLostError, StorageBusyError
from pannier.records import JobStatus, Lease, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, failed, full_job, ids_of, retry
from pannier_testing.rules import Need, rule
from pannier_testing.subject import with_timeout
from pannier_testing.trial import Trial, transactional


class UndoneError(Exception):
    """Why a test rolls a transaction back."""


@rule("R9")
async def what_is_stored_in_a_transaction_is_there_when_it_commits(trial: Trial) -> None:
    """Jobs stored in a caller's transaction are invisible until it commits, and then as if stored by store_jobs."""
    storage, other = await trial.open(), await trial.open()
    queue = trial.queue()
    jobs = [full_job(trial.tracking_id(), queue), trial.job(queue, key="k"), trial.job(queue)]

    async with trial.transaction() as transaction:
        standing = await transactional(storage).store_jobs_in(transaction, jobs)
        seen = [await instance.get_job(job.tracking_id) for job in jobs for instance in (storage, other)]
        trial.check.equal(seen, [None] * 6, "what is stored in a transaction is invisible until it commits")

    trial.check.equal(standing, ids_of(jobs), "store_jobs_in answers the ids that stand")
    trial.check.equal(await trial.read(other, *jobs), jobs, "what is stored in a transaction is there once it commits")
    taken = await trial.drain(other, queue, now=T0 + MINUTE)
    trial.check.counts(ids_of(taken), ids_of(jobs), "and can be claimed")
    again = await storage.store_jobs([trial.job(queue, key="k")])
    trial.check.equal(again, [jobs[1].tracking_id], "and holds its key")


@rule("R9")
async def what_is_stored_in_a_transaction_goes_with_it(trial: Trial) -> None:
    """Jobs stored in a caller's transaction are absent after its rollback, and their keys are free."""
    storage, other = await trial.open(), await trial.open()
    jobs = [trial.job(trial.queue(), key="k"), trial.job(trial.queue())]

    try:
        async with trial.transaction() as transaction:
            await transactional(storage).store_jobs_in(transaction, jobs)
            raise UndoneError
    except UndoneError:
        pass

    seen = [await instance.get_job(job.tracking_id) for job in jobs for instance in (storage, other)]
    trial.check.equal(seen, [None] * 4, "what is stored in a transaction is absent after its rollback")
    taken = await trial.drain(other, *(job.queue_id for job in jobs))
    trial.check.equal(taken, [], "and nobody can claim it")
    again = trial.job(jobs[0].queue_id, key="k")
    trial.check.equal(await storage.store_jobs([again]), [again.tracking_id], "and its key is free")


@rule("R9")
async def a_duplicate_leaves_the_transaction_usable(trial: Trial) -> None:
    """After an expected duplicate, of an id or a key, the caller's transaction goes on, and commits the rest."""
    storage, queue = await trial.open(), trial.queue()
    known, keyed = trial.job(queue), trial.job(queue, key="k")
    await storage.store_jobs([known, keyed])
    first, later = trial.jobs(2, queue), trial.jobs(2, queue)
    batch = [first[0], evolve(known, command=Payload("other")), trial.job(queue, key="k"), first[1]]
    promise = "a duplicate in a caller's transaction is answered, and the transaction is usable"

    async with trial.transaction() as transaction:
        inside = transactional(storage)
        standing = await trial.check.answers(inside.store_jobs_in(transaction, batch), promise)
        alone = await trial.check.answers(inside.store_jobs_in(transaction, [trial.job(queue, key="k")]), promise)
        rest = await trial.check.answers(inside.store_jobs_in(transaction, later), promise)
        none = await trial.check.answers(inside.store_jobs_in(transaction, []), promise)

    trial.check.equal(standing, ids_of([first[0], known, keyed, first[1]]), "each job gets the id that stands")
    trial.check.equal([alone, rest, none], [[keyed.tracking_id], ids_of(later), []], "also after a duplicate")
    trial.check.equal(await trial.read(storage, known, keyed), [known, keyed], "duplicates change nothing")
    taken = await trial.drain(storage, queue)
    trial.check.counts(ids_of(taken), ids_of([known, keyed, *first, *later]), "the transaction stores each job once")


@rule("R9")
async def what_is_settled_in_a_transaction_stands_when_it_commits(trial: Trial) -> None:
    """Settlements in a caller's transaction take effect with its commit, and not at all after its rollback."""
    storage, other = await trial.open(), await trial.open()
    for is_committed in (True, False):
        jobs = [await trial.started(storage, trial.job(trial.queue())) for _ in range(4)]
        outcomes: list[Outcome] = [Succeeded(Payload(1)), failed(), retry(T0 + MINUTE), Release()]
        settlements = [Settlement(job.lease, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]
        following = trial.job(trial.queue())
        try:
            async with trial.transaction() as transaction:
                await transactional(storage).settle_jobs_in(transaction, settlements, now=T0 + SECOND)
                await transactional(storage).store_jobs_in(transaction, [following])
                seen = await trial.read(other, *jobs)
                trial.check.equal(seen, jobs, "what is settled in a transaction is invisible until it commits")
                if not is_committed:
                    raise UndoneError
        except UndoneError:
            pass
        seen = await trial.read(other, *jobs)
        stored = await other.get_job(following.tracking_id)
        if is_committed:
            pending = JobStatus.PENDING
            expected = [JobStatus.SUCCEEDED, JobStatus.FAILED, pending, pending]
            trial.check.equal(
                [job.status for job in seen], expected, "settlements stand once their transaction commits"
            )
            trial.check.equal(seen[0].result, Payload(1), "with their results")
            trial.check.equal(stored, following, "together with what was stored there")
        else:
            trial.check.equal(seen, jobs, "settlements are undone by a rollback")
            trial.check.equal(stored, None, "together with what was stored there")


@rule("R9")
async def a_lost_lease_undoes_the_transaction(trial: Trial) -> None:
    """A refused lease raises LeaseLostError naming it, and nothing of the transaction stands after its rollback."""
    storage = await trial.open()
    old, good = await trial.started(storage), await trial.started(storage)
    (new,) = await acts.claim(storage, old.queue_id, now=T0 + LEASE, worker="worker-2")
    gone, effect = Lease(trial.tracking_id(), 1), trial.job(trial.queue())
    settlements = [Settlement(lease, Succeeded()) for lease in (good.lease, old.lease, gone)]

    async def settle() -> None:
        async with trial.transaction() as transaction:
            await transactional(storage).store_jobs_in(transaction, [effect])
            await transactional(storage).settle_jobs_in(transaction, settlements, now=T0 + LEASE)

    error = await trial.check.raises(LeaseLostError, settle(), "a refused lease raises in the caller's transaction")

    trial.check.counts(error.tracking_ids, [old.tracking_id, gone.tracking_id], "LeaseLostError names the refused ones")
    trial.check.equal(await trial.read(storage, good, new), [good, new], "no settlement of the transaction stands")
    trial.check.equal(await storage.get_job(effect.tracking_id), None, "and nothing else of it")


@rule("R9")
async def a_repeated_settlement_is_accepted_in_a_transaction(trial: Trial) -> None:
    """A settlement whose effect stands already does not undo the caller's transaction."""
    storage = await trial.open()
    job, effect = await trial.started(storage), trial.job(trial.queue())
    settlements = [Settlement(job.lease, Succeeded())]
    await storage.settle_jobs(settlements, now=T0)

    async with trial.transaction() as transaction:
        repeated = transactional(storage).settle_jobs_in(transaction, settlements, now=T0 + SECOND)
        await trial.check.answers(repeated, "a repeat is accepted in a caller's transaction, too")
        await transactional(storage).store_jobs_in(transaction, [effect])

    trial.check.equal(await storage.get_job(effect.tracking_id), effect, "and the transaction commits")


@rule("R39", needs=frozenset({Need.TRANSACTIONS}))
async def a_renewal_does_not_wait_for_a_transaction(trial: Trial) -> None:
    """A lease that an open settle_jobs_in holds is neither renewed nor lost; the rest of the batch is renewed."""
    setting, storage = await trial.open(), await trial.open(with_timeout(trial.url, timedelta(seconds=0.5)))
    held = await trial.started(setting)
    others = [await trial.started(setting) for _ in range(3)]
    leases = [others[0].lease, held.lease, *(job.lease for job in others[1:])]
    now = T0 + SECOND
    renewal, soon = storage.renew_leases(leases, now=now, lease_for=MINUTE), timedelta(seconds=5)

    async with trial.transaction() as transaction:
        done = [Settlement(held.lease, Succeeded())]
        await transactional(setting).settle_jobs_in(transaction, done, now=now)
        if trial.offers(Need.SINGLE_WRITER):
            promise = "a renewal that waits longer than the timeout for the only writer says so"
            await trial.check.raises(StorageBusyError, renewal, promise, within=soon)
            expected = others
        else:
            promise = "a renewal does not wait for a lease that somebody is settling"
            lost = await trial.check.answers(renewal, promise, within=soon)
            trial.check.equal(lost, frozenset[Lease](), "a lease that somebody is settling is not lost")
            expected = [evolve(job, dequeue_after=now + MINUTE) for job in others]
        trial.check.equal(await trial.read(storage, held), [held], "a lease that somebody is settling is not renewed")
        trial.check.equal(await trial.read(storage, *others), expected, "of the rest all leases are renewed, or none")

    (ended,) = await trial.read(storage, held)
    trial.check.equal(ended.status, JobStatus.SUCCEEDED, "the settlement stands once its transaction has committed")
