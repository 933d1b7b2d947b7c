"""Whole lives of many jobs, and what the process that lives through them holds on the way. Runs in a child process."""

import gc
import os
import random
import tracemalloc
from datetime import timedelta
from pathlib import Path

from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Json, Payload
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobNotifier, JobStorageProvider, add_ons
from pannier_testing.builders import LEASE, QUEUE, SECOND, T0, claim_of, new_id, new_job
from pannier_testing.resources import Held

BATCH = 100
"""How many jobs live through each step together: what a call leaves behind is spread over no more than these."""


async def live(storage: JobStorageProvider, *, lives: int, every: int) -> list[dict[str, Json]]:
    """
    Let *lives* jobs be stored, claimed, renewed, settled and purged; look at this process after each *every* of them.

    Returns:
        For each look: "lives" so far, "traced" bytes that Python holds, "resident" bytes of the process (0 where the
        system does not tell), and the counts of `Held`.
    """
    rng = random.Random(0)
    looks: list[dict[str, Json]] = []
    tracemalloc.start()
    try:
        for lived in range(BATCH, lives + 1, BATCH):
            await _live_through(storage, rng, number=lived // BATCH)
            if lived % every == 0:
                gc.collect()
                traced, _ = tracemalloc.get_traced_memory()
                looks.append({"lives": lived, "traced": traced, "resident": _resident(), **Held.now().counts})
    finally:
        tracemalloc.stop()
    return looks


async def _live_through(storage: JobStorageProvider, rng: random.Random, *, number: int) -> None:
    now = T0 + number * SECOND
    jobs = [new_job(new_id(rng), execute_after=now, key=f"{number} {each}") for each in range(BATCH)]
    await storage.store_jobs(jobs)
    taken: list[JobRecord] = []
    while len(taken) < BATCH:
        taken += (await storage.claim_jobs(claim_of(limit=BATCH - len(taken), now=now))).jobs
    await storage.renew_leases([job.lease for job in taken], now=now, lease_for=LEASE)
    await storage.settle_jobs([Settlement(job.lease, Succeeded(Payload("done"))) for job in taken], now=now)
    if isinstance(storage, JobNotifier) and "notify" in add_ons(storage):
        async with storage.listen(frozenset({QUEUE})):  # who has listened is gone: nothing is kept for it
            pass
    await storage.purge_stale_jobs(StaleJobs(now=now, keep={JobStatus.SUCCEEDED: timedelta(0)}, limit=BATCH))


def _resident() -> int:
    table = Path("/proc/self/statm")
    return int(table.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if table.exists() else 0
