"""MongoDB, held to every rule of the contract, those that need test aids among them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_mongo._documents import CODEC
from pannier_testing import NewerSchema, Place, StorageConformance
from pannier_testing.saboteurs.relay import TransactionalRelay

Document = dict[str, Any]


class TestMongo(StorageConformance):
    """A database for each place, on a server of the session's."""

    @pytest.fixture(autouse=True)
    def server(self, mongo_url: str) -> None:
        self.server_url = mongo_url

    def storage_url(self, env: Place) -> str:
        return f"{self.server_url}/{env.namespace}?directConnection=true"

    def damage(self, url: str, tracking_id: str) -> None:
        with database_of(url) as database:
            broken = {"$set": {"command": {"encoding": "json", "text": "{"}}}
            changed = database["pannier_jobs"].update_one({"_id": UUID(tracking_id)}, broken)
            assert changed.modified_count == 1

    def store_size(self, url: str) -> int:
        with database_of(url) as database:
            return sum(database[name].count_documents({}) for name in ("pannier_jobs", "pannier_settling"))

    def earlier_stores(self) -> Mapping[str, Callable[[str], JobStorageProvider]]:
        return {"0": of_the_schema_before}

    def make_newer(self, url: str, newer: NewerSchema) -> None:
        with database_of(url) as database:
            database["pannier_jobs"].update_many({}, [{"$set": {"colour": "red"}}])
            raised = {"version": 1, "compatible_with": 0 if newer is NewerSchema.COMPATIBLE else 1}
            database["pannier_schema"].update_one({}, {"$inc": raised})

    def unknown_fields(self, url: str) -> Mapping[str, object]:
        with database_of(url) as database:
            return {str(job["_id"]): job.get("colour") for job in database["pannier_jobs"].find()}


class OfTheSchemaBefore(TransactionalRelay):
    """The adapter as of a schema that there never was, before the first: without the index by which purges look."""

    async def open(self) -> None:
        """Open, and take away what the first schema is to have brought."""
        await super().open()
        with database_of(self.url.text) as database:
            database["pannier_jobs"].drop_index("pannier_stale")
            database["pannier_schema"].update_one({}, {"$set": {"version": 0, "compatible_with": 0}})


def of_the_schema_before(url: str) -> JobStorageProvider:
    """Return an instance that makes and uses stores of the made-up schema 0."""
    return OfTheSchemaBefore(Plugins.installed().create_storage(StorageUrl(url)), StorageUrl(url))


@contextmanager
def database_of(url: str) -> Iterator[Database[Document]]:
    """Lend the database that a URL names."""
    server, _, name = url.partition("?")[0].rpartition("/")
    client: MongoClient[Document] = MongoClient(server)
    try:
        yield client.get_database(name, codec_options=CODEC)
    finally:
        client.close()
