"""The caller's own transaction: what runs in it."""

from collections.abc import Sequence
from uuid import UUID

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from pannier.errors import NotSupportedError, StorageRefusedError, UsageError
from pannier_mongo import _queries
from pannier_mongo._connection import Store, store_of
from pannier_mongo._documents import JobDocument
from pannier_mongo.settings import Settings


def store_in(transaction: object, store: Store, settings: Settings) -> Store:
    """
    Return the collections as the client of *transaction* reaches them: a session is good for its own client only.

    Raises:
        TypeError: It is no session.
        UsageError: It has no open transaction: what is written would stand at once, whatever becomes of the caller's
            work.
        NotSupportedError: The server is a standalone one.
    """
    if not store.has_transactions:
        raise NotSupportedError(f"{settings.shown} is a standalone server, which has no transactions")
    if not isinstance(transaction, AsyncClientSession):
        raise TypeError(f"transaction must be an AsyncClientSession of PyMongo, not {type(transaction).__name__}")
    if not transaction.in_transaction:
        raise UsageError("the session has no open transaction; start one, and write your own changes in it, too")
    return store_of(transaction.client, settings, has_transactions=True)


async def insert(store: Store, documents: Sequence[JobDocument], session: AsyncClientSession) -> list[UUID]:
    """
    Insert jobs in the transaction of *session*; return the ids that stand.

    By upserts: an insert that meets a duplicate would end the caller's transaction.
    """
    return [await _insert_one(store, document, session) for document in documents]


async def _insert_one(store: Store, document: JobDocument, session: AsyncClientSession) -> UUID:
    # The queue stands in both filters: where the collection is sharded, by the queue, an upsert has to name its shard.
    stored = await store.jobs.find_one(_queries.with_id(document["_id"]), {"_id": 1}, session=session)
    if stored is not None:
        return document["_id"]
    standing = _queries.standing_for(document)
    found: JobDocument | None = await store.jobs.find_one_and_update(
        standing,
        {"$setOnInsert": {name: value for name, value in document.items() if name not in standing}},
        projection={"_id": 1},
        upsert=True,
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if found is None:  # an upsert has always something to return
        raise StorageRefusedError(f"job {document['_id']} was neither stored nor found")
    return found["_id"]  # of the job that was inserted, or that stood
