"""What the child processes of a race run: see `Child.run`. Imports little, since every child imports it anew."""

import asyncio
from uuid import UUID

from pannier.records import Json
from pannier.storage import JobStorageProvider
from pannier_testing.builders import new_job


async def store_keyed(storage: JobStorageProvider, *, queue: str, ids: list[str]) -> list[Json]:
    """Store jobs with the key "k" at the same time; return the ids that stand."""
    jobs = [new_job(UUID(tracking_id), queue, key="k") for tracking_id in ids]
    answers = await asyncio.gather(*(storage.store_jobs([job]) for job in jobs))
    return [str(standing) for answer in answers for standing in answer]
