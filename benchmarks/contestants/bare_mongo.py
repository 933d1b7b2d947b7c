"""
Bare MongoDB: PyMongo's asyncio client, claims by ranges of a running number.

On the server that the tests use a sorted, limited look-up costs as much as there are jobs; a closed range of an index
costs as much as it holds. On MongoDB itself both cost as much as they find.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from json import dumps

from pymongo import ASCENDING, AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.write_concern import WriteConcern

from benchmarks.contestants import bare_tasks
from benchmarks.contestants.bare_worker import Claimed
from benchmarks.task import Answer, Task, payload

LEASE = timedelta(seconds=30)


class Store:
    """Jobs in a collection."""

    def __init__(self, jobs: AsyncCollection[dict[str, object]]) -> None:
        self._jobs = jobs
        self._numbers = count()
        self._next = 0

    async def put(self, numbers: Sequence[int]) -> None:
        """Store the jobs *numbers*."""
        documents = [self._document(number) for number in numbers]
        if len(documents) == 1:
            await self._jobs.insert_one(documents[0])
        else:
            await self._jobs.insert_many(documents, ordered=False)

    def _document(self, number: int) -> dict[str, object]:
        seq = next(self._numbers)
        return {"_id": seq, "seq": seq, "done": False, "due": datetime.now(UTC), "payload": dumps(payload(number))}

    async def claim(self, limit: int) -> Sequence[Claimed]:
        """Lease the next *limit* jobs in the order stored."""
        first, self._next = self._next, self._next + limit
        wanted = {"done": False, "seq": {"$gte": first, "$lt": first + limit}}
        await self._jobs.update_many(wanted, {"$set": {"due": datetime.now(UTC) + LEASE, "claim": first}})
        found = self._jobs.find({**wanted, "claim": first}, {"payload": True})
        return [(document["_id"], document["payload"]) async for document in found]  # type: ignore[misc]  # stored so

    async def complete(self, keys: Sequence[int]) -> None:
        """Mark *keys* as done."""
        await self._jobs.update_many({"_id": {"$in": list(keys)}}, {"$set": {"done": True}})


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Store]:
    """Make the collection, and connect."""
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(task.server)
    jobs = client.get_default_database().get_collection("jobs", write_concern=WriteConcern("majority", j=True))
    await jobs.create_index([("done", ASCENDING), ("seq", ASCENDING)])
    try:
        yield Store(jobs)
    finally:
        await client.close()


def drain(task: Task) -> Answer:
    """Do the jobs by one bare worker."""
    return asyncio.run(bare_tasks.drain(task, opened, window=2 * task.concurrency))


def enqueue(task: Task) -> Answer:
    """Store jobs, each caller awaiting his own."""
    return asyncio.run(bare_tasks.enqueue(task, opened))


def bulk(task: Task) -> Answer:
    """Store jobs in batches."""
    return asyncio.run(bare_tasks.bulk(task, opened))
