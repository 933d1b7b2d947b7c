"""Section A: what is stored comes back, once, and at once to everybody."""

from datetime import timedelta

from pannier.records import Cancellation, Lease, Release, Settlement, Succeeded
from pannier_testing.builders import LEASE, T0, failed, retry
from pannier_testing.rules import rule
from pannier_testing.trial import Trial


@rule("R8")
async def unknown_ids_are_answered_not_raised(trial: Trial) -> None:
    """Reading, cancelling, renewing and settling a job that was never stored are answered, and store nothing."""
    storage, check = await trial.open(), trial.check
    for outcome in (Succeeded(), failed(), retry(T0 + timedelta(seconds=9)), Release()):
        lease = Lease(trial.tracking_id(), 1)
        settlement = Settlement(lease, outcome)
        promise = "an unknown tracking id is answered, not raised"

        job = await check.answers(storage.get_job(lease.tracking_id), promise)
        cancelled = await check.answers(storage.cancel_job(lease.tracking_id, now=T0), promise)
        lost = await check.answers(storage.renew_leases([lease], now=T0, lease_for=LEASE), promise)
        refused = await check.answers(storage.settle_jobs([settlement], now=T0), promise)

        check.equal(job, None, "get_job of an unknown id is None")
        check.equal(cancelled, Cancellation.NOT_FOUND, "cancel_job of an unknown id is NOT_FOUND")
        check.equal(lost, frozenset([lease]), "renew_leases reports the lease of an unknown job as lost")
        check.equal(refused, frozenset([lease]), "settle_jobs refuses the lease of an unknown job")
        check.equal(await storage.get_job(lease.tracking_id), None, "none of this stores anything")
