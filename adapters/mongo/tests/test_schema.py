"""The schema: how it comes about, and what it is to newer and older adapters."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest

from pannier.errors import SchemaTooNewError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_mongo._migrations import VERSION
from pannier_testing.builders import QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.asynchronous.database import AsyncDatabase

    from pannier_mongo.provider import MongoStorage

    Database: TypeAlias = AsyncDatabase[Mapping[str, object]]

NewId: TypeAlias = Callable[[], UUID]

OPENS = """
import asyncio, sys
from pannier.plugins import Plugins
from pannier.urls import StorageUrl

async def main():
    storage = Plugins.installed().create_storage(StorageUrl(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    await storage.open()
    await storage.close()

asyncio.run(main())
"""


def test_many_processes_open_a_new_database_at_once(runner: asyncio.Runner, url: str, other: "Database") -> None:
    """All succeed, and there is one schema (R114)."""
    runner.run(other["pannier_schema"].drop())
    runner.run(other["pannier_jobs"].drop())
    command = [sys.executable, "-c", OPENS, f"{url}&timeout=60"]
    pipe = subprocess.PIPE
    openers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(5)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    ended = [opener.communicate(timeout=60)[1] for opener in openers]

    assert ended == [""] * 5
    marker = runner.run(other["pannier_schema"].find_one())
    assert marker == {"_id": "schema", "version": VERSION, "compatible_with": VERSION}
    indexes = runner.run(other["pannier_jobs"].index_information())
    assert sorted(indexes) == ["_id_", "pannier_key", "pannier_line", "pannier_stale"]


def test_a_newer_compatible_schema_is_used_and_its_fields_are_kept(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId
) -> None:
    """What a newer worker has written beside a job is still there after ours has settled it (R116)."""
    newer = {"$set": {"version": VERSION + 1, "compatible_with": VERSION}}
    runner.run(other["pannier_schema"].update_one({}, newer))
    runner.run(storage.store_jobs([new_job(ids())]))
    runner.run(other["pannier_jobs"].update_one({}, {"$set": {"colour": "red"}}))
    runner.run(storage.close())
    runner.run(storage.open())
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    runner.run(storage.settle_jobs([Settlement(job.lease, Succeeded())], now=T0))

    stored = runner.run(other["pannier_jobs"].find_one())
    assert stored is not None
    assert (stored["status"], stored["colour"]) == ("succeeded", "red")


def test_a_newer_incompatible_schema_is_refused_and_left_as_it_is(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database"
) -> None:
    """The error names both versions (R115)."""
    newer = {"$set": {"version": VERSION + 3, "compatible_with": VERSION + 2}}
    runner.run(other["pannier_schema"].update_one({}, newer))
    before = runner.run(other["pannier_schema"].find_one())
    runner.run(storage.close())
    with pytest.raises(SchemaTooNewError) as caught:
        runner.run(storage.open())

    assert (caught.value.found, caught.value.known) == (VERSION + 3, VERSION)
    assert runner.run(other["pannier_schema"].find_one()) == before


def test_what_was_left_half_made_is_completed(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId
) -> None:
    """The version is written last: without one, whatever is missing is made, and jobs stay (R89, R115)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    runner.run(storage.close())
    runner.run(other["pannier_schema"].drop())
    runner.run(other["pannier_jobs"].drop_index("pannier_key"))
    runner.run(storage.open())

    assert "pannier_key" in runner.run(other["pannier_jobs"].index_information())
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


def test_destroying_spares_what_is_another_s(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", plugins: Plugins, url: str, ids: NewId
) -> None:
    """The collections of pannier go; whatever else the database holds stays (R95). Twice is fine."""
    runner.run(storage.store_jobs([new_job(ids())]))
    runner.run(other["orders"].insert_one({"_id": 1}))
    runner.run(storage.close())

    async def play() -> list[str]:
        await plugins.adapter_for(StorageUrl(url)).destroy(StorageUrl(url))
        await plugins.adapter_for(StorageUrl(url)).destroy(StorageUrl(url))
        return await other.list_collection_names()

    assert runner.run(play()) == ["orders"]
    runner.run(other["orders"].drop())
