"""Storing new jobs."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from pymongo.errors import BulkWriteError, PyMongoError

from pannier.records import JobRecord
from pannier_mongo import _queries
from pannier_mongo._connection import Store
from pannier_mongo._documents import JobDocument, from_job
from pannier_mongo._errors import DUPLICATE_KEY

CHUNK: Final = 1000
"""Jobs in one command: the loop would stand still while more are written out."""

_PAUSE_SECONDS: Final = 0.01


class Lines:
    """
    The lines that jobs were stored in: which priorities a queue has.

    A claim looks at each line for itself, so every line is noted before its first job is stored. What was noted once is
    remembered here; a line is never removed.
    """

    def __init__(self) -> None:
        self._noted: set[tuple[str, int]] = set()

    async def note(self, store: Store, documents: Iterable[JobDocument]) -> None:
        """Note the lines of *documents*."""
        new = {(document["queue_id"], document["priority"]) for document in documents} - self._noted
        for queue_id in sorted({queue_id for queue_id, _ in new}):
            priorities = sorted(priority for name, priority in new if name == queue_id)
            await store.queues.update_one(
                {"_id": queue_id}, {"$addToSet": {"priorities": {"$each": priorities}}}, upsert=True
            )
        self._noted |= new


async def encode(jobs: Sequence[JobRecord]) -> list[JobDocument]:
    """
    Return the documents of *jobs*. Lets others run between many.

    Raises:
        UnstorableError: One can't be held.
    """
    documents: list[JobDocument] = []
    for start in range(0, len(jobs), CHUNK):
        if start:
            await asyncio.sleep(0)
        documents += map(from_job, jobs[start : start + CHUNK])
    return documents


async def insert(store: Store, documents: Sequence[JobDocument]) -> list[UUID]:
    """
    Insert jobs; return the ids that stand. A call that raises may have stored a part, and can be repeated (R5).

    Not in a transaction: one whose process was killed before the commit keeps ids and keys to itself for a minute, and
    whoever stores the same again has to wait for it (R89).
    """
    known: Sequence[UUID | None] = [None] * len(documents)
    while True:
        new, standing = without_repeats(documents, known)
        try:
            for start in range(0, len(new), CHUNK):
                # Also of one: insert_one tells of a duplicate alone, and not that no majority has acknowledged it.
                await store.jobs.insert_many(new[start : start + CHUNK], ordered=False)
        except PyMongoError as error:
            if not is_duplicate(error):
                raise
        else:
            return standing
        before, known = known, await find_standing(store, documents)
        if known == before:  # what stood was purged meanwhile, or is not yet acknowledged by a majority
            await asyncio.sleep(_PAUSE_SECONDS)


async def find_standing(store: Store, documents: Sequence[JobDocument]) -> list[UUID | None]:
    """Return which stored ids stand in place of those of *documents*: their own (R7), or that of their key (R10)."""
    standing: list[UUID | None] = []
    for chunk in _queries.lookups(documents):
        ids = [document["_id"] for document in chunk]
        stored = {found["_id"] async for found in store.jobs.find(_queries.with_ids(ids), {"_id": 1})}
        keyed: dict[tuple[str, str], UUID] = {}
        for queue_id in sorted({document["queue_id"] for document in chunk if "idempotency_key" in document}):
            keys = [d["idempotency_key"] for d in chunk if d["queue_id"] == queue_id and "idempotency_key" in d]
            async for found in store.jobs.find(_queries.with_keys(queue_id, keys), {"idempotency_key": 1}):
                keyed[queue_id, found["idempotency_key"]] = found["_id"]
        standing += [
            document["_id"] if document["_id"] in stored else keyed.get(_place(document)) for document in chunk
        ]
    return standing


def without_repeats(
    documents: Sequence[JobDocument], known: Sequence[UUID | None]
) -> tuple[list[JobDocument], list[UUID]]:
    """Return those of *documents* that are to be inserted, and for each the id that stands then (R5)."""
    new: dict[UUID, JobDocument] = {}
    keys: dict[tuple[str, str], UUID] = {}
    standing: list[UUID] = []
    for document, stored in zip(documents, known, strict=True):
        tracking_id, place = document["_id"], _place(document)
        if tracking_id in new:
            standing.append(tracking_id)
        elif stored is not None:
            standing.append(stored)
        elif place in keys:
            standing.append(keys[place])
        else:
            new[tracking_id] = document
            standing.append(tracking_id)
            if "idempotency_key" in document:
                keys[place] = tracking_id
    return list(new.values()), standing


def is_duplicate(error: PyMongoError) -> bool:
    """Whether *error* says that tracking ids or keys were there, and nothing worse."""
    if not isinstance(error, BulkWriteError) or error.details["writeConcernErrors"]:
        return False
    faults = error.details["writeErrors"]
    return bool(faults) and all(fault["code"] == DUPLICATE_KEY for fault in faults)


def is_shared(document: JobDocument) -> bool:
    """
    Whether a job may share an insert with those of other callers: it has no key, and is small.

    One with a key waits for whoever is storing the same in a transaction, and others would have to (R122).
    """
    return "idempotency_key" not in document and "tree" in document["command"]


def _place(document: JobDocument) -> tuple[str, str]:
    """Return what is unique: the queue and the key; the key is never blank where there is one."""
    return document["queue_id"], document.get("idempotency_key", "")
