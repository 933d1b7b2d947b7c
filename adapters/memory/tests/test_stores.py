"""Stores: which instances share one, and how long it lives."""

import asyncio
from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context
from threading import Thread
from uuid import UUID

import pytest

from pannier import ConfigurationError
from pannier.errors import StorageClosedError
from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_memory.plugin import MemoryPlugin
from pannier_memory.provider import MemoryStorage
from pannier_testing.builders import claim_of, new_job

MakeStorage = Callable[[str], MemoryStorage]
NewId = Callable[[], UUID]


async def stored(first: MemoryStorage, second: MemoryStorage, tracking_id: UUID) -> bool:
    """Store a job in *first*, and return whether *second* has it."""
    await first.open()
    await second.open()
    await first.store_jobs([new_job(tracking_id)])
    found = await second.get_job(tracking_id)
    await first.close()
    await second.close()
    return found is not None


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("memory://", "memory://", False),
        ("memory://a", "memory://a", True),
        ("memory://a", "memory://b", False),
        ("memory://a", "memory://A", False),
        ("memory://a", "MEMORY://a?timeout=1", True),
    ],
)
def test_a_name_is_a_store_of_this_process(
    runner: asyncio.Runner, make: MakeStorage, ids: NewId, first: str, second: str, *, is_shared: bool
) -> None:
    """Without a name, each instance has its own."""
    assert runner.run(stored(make(first), make(second), ids())) is is_shared


def test_a_named_store_lives_until_its_last_instance_closes(
    runner: asyncio.Runner, make: MakeStorage, ids: NewId
) -> None:
    """Then it is gone, with all of its jobs."""
    first, second, third = (make("memory://shop") for _ in range(3))
    tracking_id = ids()

    async def main() -> None:
        await first.open()
        await first.store_jobs([new_job(tracking_id)])
        await second.open()
        await first.close()
        assert await second.get_job(tracking_id) is not None
        await second.close()
        await third.open()
        assert await third.get_job(tracking_id) is None
        await third.close()

    runner.run(main())


def test_an_instance_that_was_never_opened_keeps_nothing_alive(
    runner: asyncio.Runner, make: MakeStorage, ids: NewId
) -> None:
    """Making one, as a check of the URL does, is no use of the store."""
    idle, first, second = (make("memory://shop") for _ in range(3))
    tracking_id = ids()

    async def main() -> None:
        await first.open()
        await first.store_jobs([new_job(tracking_id)])
        await first.close()
        await idle.close()
        await second.open()
        assert await second.get_job(tracking_id) is None
        await second.close()

    runner.run(main())


def test_two_plugin_objects_share_nothing(runner: asyncio.Runner, ids: NewId) -> None:
    """The store is the plugin object's; there is no other global."""
    storages = []
    for _ in range(2):
        plugins = Plugins()
        plugins.register(MemoryPlugin())
        storages.append(plugins.create_storage(StorageUrl("memory://shop")))
    first, second = storages
    assert isinstance(first, MemoryStorage)
    assert isinstance(second, MemoryStorage)
    assert runner.run(stored(first, second, ids())) is False


def test_loops_of_several_threads_share_a_named_store(runner: asyncio.Runner, make: MakeStorage, ids: NewId) -> None:
    """Each thread opens its own instance; no job is claimed twice."""
    first = make("memory://shop")
    claimed: list[UUID] = []

    async def drain() -> None:
        storage = make("memory://shop")
        await storage.open()
        while jobs := (await storage.claim_jobs(claim_of(limit=7))).jobs:
            claimed.extend(job.tracking_id for job in jobs)
        await storage.close()

    async def fill() -> list[UUID]:
        await first.open()
        return await first.store_jobs([new_job(ids()) for _ in range(500)])

    stored_ids = runner.run(fill())
    threads = [Thread(target=lambda: asyncio.run(drain())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runner.run(first.close())
    assert sorted(claimed) == sorted(stored_ids)


def test_destroying_a_store_empties_it_for_all(runner: asyncio.Runner, make: MakeStorage, ids: NewId) -> None:
    """Its instances work on, with nothing in it; other stores are left alone."""
    plugins = Plugins()
    plugins.register(MemoryPlugin())
    url = StorageUrl("memory://shop")
    storage, other = plugins.create_storage(url), plugins.create_storage(StorageUrl("memory://other"))
    here, there = ids(), ids()

    async def main() -> None:
        await storage.open()
        await other.open()
        await storage.store_jobs([new_job(here)])
        await other.store_jobs([new_job(there)])
        await plugins.adapters["memory"].destroy(url)
        assert await storage.get_job(here) is None
        assert await storage.store_jobs([new_job(here)]) == [here]
        assert await other.get_job(there) is not None
        await storage.close()
        await other.close()

    runner.run(main())


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("memory://a/b", "has a path; write memory:// for a private store"),
        ("memory:///jobs", "has a path"),
        ("memory://a?synchronous=full", r"unknown option 'synchronous' \(known: timeout\)"),
        ("memory://a?timeout=soon", "must be a number of seconds"),
    ],
)
def test_a_url_that_means_something_else_is_refused(make: MakeStorage, url: str, complaint: str) -> None:
    """When it is read, not when the first job is stored."""
    with pytest.raises(ConfigurationError, match=complaint):
        make(url)


def test_a_closed_instance_says_so_and_opens_again(runner: asyncio.Runner, make: MakeStorage, ids: NewId) -> None:
    """R93: twice is fine for both."""
    storage = make("memory://")

    async def main() -> None:
        with pytest.raises(StorageClosedError, match="is not open; await its open"):
            await storage.get_job(ids())
        await storage.open()
        await storage.open()
        await storage.close()
        await storage.close()
        with pytest.raises(StorageClosedError):
            await storage.get_job(ids())
        await storage.open()
        assert await storage.get_job(ids()) is None
        await storage.close()

    runner.run(main())


@pytest.mark.skipif("fork" not in get_all_start_methods(), reason="there is no fork on this system")
def test_a_forked_child_has_no_store_of_its_parents(runner: asyncio.Runner, make: MakeStorage, ids: NewId) -> None:
    """R93: the jobs that it inherits run in the parent; a store that it opens is its own."""
    storage = make("memory://shop")
    tracking_id = ids()
    runner.run(storage.open())
    runner.run(storage.store_jobs([new_job(tracking_id)]))

    child = get_context("fork").Process(target=find_nothing, args=(storage, make("memory://shop"), tracking_id))
    child.start()
    child.join()

    assert child.exitcode == 0
    assert runner.run(storage.get_job(tracking_id)) is not None
    runner.run(storage.close())


def find_nothing(inherited: MemoryStorage, own: MemoryStorage, tracking_id: UUID) -> None:
    """In a child: what it inherited is refused, and its own store is empty."""
    with asyncio.Runner() as runner:
        with pytest.raises(StorageClosedError, match="was opened by the parent process"):
            runner.run(inherited.get_job(tracking_id))
        runner.run(inherited.close())
        runner.run(own.open())
        assert runner.run(own.get_job(tracking_id)) is None
