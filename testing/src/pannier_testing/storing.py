"""What processes that open a store together do there, for the rules of the schema."""

from uuid import UUID

from pannier.storage import JobStorageProvider
from pannier_testing.builders import new_job

KEY = "first come"


async def open_and_store(storage: JobStorageProvider, *, own: str, keyed: str) -> str:
    """Store a job of this process, and one under the key that all share; return the id that stands for that."""
    await storage.store_jobs([new_job(UUID(own))])
    standing = await storage.store_jobs([new_job(UUID(keyed), key=KEY)])
    return str(standing[0])
