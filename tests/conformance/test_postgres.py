"""PostgreSQL, held to every rule of the contract, those that need test aids among them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import asyncpg
import pytest

from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing import NewerSchema, Place, StorageConformance
from pannier_testing.saboteurs.relay import TransactionalRelay


class TestPostgres(StorageConformance):
    """A schema for each place, on a server of the session's."""

    @pytest.fixture(autouse=True)
    def server(self, postgres_url: str) -> None:
        self.server_url = postgres_url

    def storage_url(self, env: Place) -> str:
        return f"{self.server_url}?schema={env.namespace}"

    def damage(self, url: str, tracking_id: str) -> None:
        asyncio.run(execute(url, "UPDATE jobs SET metadata = '[1]' WHERE tracking_id = $1", tracking_id))

    def store_size(self, url: str) -> int:
        [[jobs]] = asyncio.run(execute(url, "SELECT count(*) FROM jobs"))
        return int(jobs)

    def earlier_stores(self) -> Mapping[str, Callable[[str], JobStorageProvider]]:
        return {"1": of_the_first_schema}

    def make_newer(self, url: str, newer: NewerSchema) -> None:
        asyncio.run(give_colours(url, newer))

    def unknown_fields(self, url: str) -> Mapping[str, object]:
        rows = asyncio.run(execute(url, "SELECT tracking_id, colour FROM jobs"))
        return {str(tracking_id): colour for tracking_id, colour in rows}


class OfTheFirstSchema(TransactionalRelay):
    """The adapter as of schema 1: it makes a store without the comments of schema 2."""

    async def open(self) -> None:
        """Open, and undo the second migration."""
        await super().open()
        await execute(self.url.text, "COMMENT ON COLUMN jobs.dequeue_after IS NULL")
        await execute(self.url.text, "DELETE FROM schema_versions WHERE version > 1")


def of_the_first_schema(url: str) -> JobStorageProvider:
    """Return an instance that makes and uses stores of schema 1."""
    return OfTheFirstSchema(Plugins.installed().create_storage(StorageUrl(url)), StorageUrl(url))


async def give_colours(url: str, newer: NewerSchema) -> None:
    """Give each job a colour, by a schema that comes after the last."""
    await execute(url, "ALTER TABLE jobs ADD COLUMN colour text")
    await execute(url, "UPDATE jobs SET colour = 'red ' || tracking_id")
    step = 0 if newer is NewerSchema.COMPATIBLE else 1
    await execute(
        url,
        "INSERT INTO schema_versions (version, readable_from, has_made_schema) "
        "SELECT max(version) + 1, max(version) + $1, true FROM schema_versions",
        step,
    )


async def execute(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Run a statement in the schema of a URL."""
    async with connected(url) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Lend a connection whose statements find the tables of a URL's schema by their names alone."""
    schema = StorageUrl(url).options["schema"]
    connection = await asyncpg.connect(url.partition("?")[0], server_settings={"search_path": schema})
    try:
        yield connection
    finally:
        await connection.close(timeout=5)
