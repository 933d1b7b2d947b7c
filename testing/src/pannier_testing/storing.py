"""What processes that open a store together do there, for the rules of the schema."""

import asyncio
from uuid import UUID

from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import T0, claim_of, new_job

KEY = "first come"


async def open_and_store(storage: JobStorageProvider, *, own: str, keyed: str) -> str:
    """Store a job of this process, and one under the key that all share; return the id that stands for that."""
    await storage.store_jobs([new_job(UUID(own))])
    standing = await storage.store_jobs([new_job(UUID(keyed), key=KEY)])
    return str(standing[0])


async def run_all(storage: JobStorageProvider, *, worker: str, pause: float = 0.0) -> list[str]:
    """Claim and settle, a job at a time, until nothing is due; return the ids of the jobs that were run."""
    run: list[str] = []
    while True:
        claimed = await storage.claim_jobs(claim_of(worker=worker))
        if not claimed.jobs and (claimed.next_due is None or claimed.next_due > T0):
            return run
        settlements = [Settlement(job.lease, Succeeded()) for job in claimed.jobs]
        if not await storage.settle_jobs(settlements, now=T0):
            run += [str(job.tracking_id) for job in claimed.jobs]
        await asyncio.sleep(pause)
