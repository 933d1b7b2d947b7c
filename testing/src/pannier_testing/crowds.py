"""What the processes of a race run. Imports little, since each of them imports it anew."""

import asyncio
import time
from uuid import UUID

from pannier.records import Json
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, T0, claim_of, new_job


async def start(at: float) -> None:
    """Wait until *at*, on the clock that all processes share: all are open by then."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))


async def store_keyed(storage: JobStorageProvider, *, at: float, queue: str, ids: list[str]) -> list[Json]:
    """Store jobs with the key "k" at the same time; return the ids that stand."""
    await start(at)
    jobs = [new_job(UUID(tracking_id), queue, key="k") for tracking_id in ids]
    answers = await asyncio.gather(*(storage.store_jobs([job]) for job in jobs))
    return [str(standing) for answer in answers for standing in answer]


async def drain(storage: JobStorageProvider, *, at: float, queue: str, worker: str, limit: int) -> list[Json]:
    """Claim until nothing more is due; return the ids of the jobs that were taken, in order."""
    await start(at)
    claim = claim_of(queue, limit=limit, worker=worker)
    taken: list[Json] = []
    while True:
        claimed = await storage.claim_jobs(claim)
        taken += [str(job.tracking_id) for job in claimed.jobs]
        if not claimed.jobs and (claimed.next_due is None or claimed.next_due > claim.now):
            return taken
        await asyncio.sleep(0)


async def work(storage: JobStorageProvider, *, at: float = 0.0, queue: str, worker: str, ids: list[str]) -> list[Json]:
    """Store jobs one by one; claim, renew and settle whatever is due meanwhile; return the ids that were settled."""
    await start(at)
    waiting = [new_job(UUID(tracking_id), queue) for tracking_id in ids]
    done: list[Json] = []
    while True:
        if waiting:
            await storage.store_jobs([waiting.pop()])
        claimed = await storage.claim_jobs(claim_of(queue, limit=2, worker=worker))
        leases = [job.lease for job in claimed.jobs]
        if leases:
            await storage.renew_leases(leases, now=T0, lease_for=LEASE)
            refused = await storage.settle_jobs([Settlement(lease, Succeeded()) for lease in leases], now=T0)
            done += [str(lease.tracking_id) for lease in leases if lease not in refused]
        if not waiting and not leases and (claimed.next_due is None or claimed.next_due > T0):
            return done


async def claim_one_by_one(storage: JobStorageProvider, *, queue_id: str) -> Json:
    """Claim job by job until nothing is due; return their fences by id. Runs in a child process."""
    fences: dict[str, Json] = {}
    while True:
        claimed = await storage.claim_jobs(claim_of(queue_id, limit=1))
        fences |= {str(job.tracking_id): job.fence for job in claimed.jobs}
        if not claimed.jobs and (claimed.next_due is None or claimed.next_due > T0):
            return fences


async def cancel_one_by_one(storage: JobStorageProvider, *, tracking_ids: list[str]) -> Json:
    """Cancel job by job; return the answers. Runs in a child process."""
    return [str(await storage.cancel_job(UUID(tracking_id), now=T0)) for tracking_id in tracking_ids]
