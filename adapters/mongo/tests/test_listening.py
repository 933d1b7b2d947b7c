"""Notices: who hears of what, and what becomes of a listener whose stream breaks (R113, R124)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest

from pannier.notices import Notice, NoticeKind
from pannier.purging import StaleJobs
from pannier.settlements import Release, Settlement, Succeeded
from pannier.subscription import PENDING_MAX, Subscription
from pannier.urls import StorageUrl
from pannier_mongo._notifier import to_notice
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, failed, new_job
from pannier_testing.proxy import FaultProxy

if TYPE_CHECKING:
    from pannier.plugins import Plugins
    from pannier_mongo.provider import MongoStorage

MakeStorage: TypeAlias = Callable[[str], "MongoStorage"]
NewId: TypeAlias = Callable[[], UUID]

HERE = frozenset({QUEUE})


@pytest.fixture
def listener(runner: asyncio.Runner, make: MakeStorage) -> Iterator["MongoStorage"]:
    """Another instance."""
    listener = make("&timeout=20")
    runner.run(listener.open())
    yield listener
    runner.run(listener.close())


async def some(notices: AsyncIterator[Notice], number: int) -> list[Notice]:
    """Return the next notices."""
    return [await anext(notices) for _ in range(number)]


def test_store_claim_and_every_end_are_announced_with_their_queue(
    runner: asyncio.Runner, storage: "MongoStorage", listener: "MongoStorage", ids: NewId
) -> None:
    """Another instance hears of what it listens to, and of nothing else; a claim is nobody's business."""
    here = [new_job(ids(), expire_on=T0 + 2 * LEASE) for _ in range(5)]
    there = new_job(ids(), "elsewhere")

    async def play() -> list[Notice]:
        async with listener.listen(HERE) as notices:
            await storage.store_jobs([*here, there])
            stored = await some(notices, 5)
            claimed = {job.tracking_id: job.lease for job in (await storage.claim_jobs(claim_of(limit=4))).jobs}
            good, bad, back, gone = sorted(claimed)
            await storage.settle_jobs([Settlement(claimed[good], Succeeded())], now=T0)
            await storage.settle_jobs([Settlement(claimed[bad], failed())], now=T0)
            await storage.settle_jobs([Settlement(claimed[back], Release())], now=T0)
            await storage.cancel_job(gone, now=T0)
            (left,) = {job.tracking_id for job in here} - claimed.keys()
            await storage.cancel_job(back, now=T0)
            await storage.purge_stale_jobs(StaleJobs(now=T0 + 3 * LEASE, keep={}))
            ended = await some(notices, 6)
            assert ended == [
                Notice(NoticeKind.FINISHED, QUEUE, good),
                Notice(NoticeKind.FINISHED, QUEUE, bad),
                Notice(NoticeKind.QUEUED, QUEUE, back),
                Notice(NoticeKind.CANCELLED, QUEUE, gone),
                Notice(NoticeKind.CANCELLED, QUEUE, back),
                Notice(NoticeKind.FINISHED, QUEUE, left),
            ]
            return stored

    stored = runner.run(play())
    assert {notice.tracking_id for notice in stored} == {job.tracking_id for job in here}
    assert {notice.kind for notice in stored} == {NoticeKind.QUEUED}


def test_what_is_rolled_back_is_not_announced(
    runner: asyncio.Runner, storage: "MongoStorage", listener: "MongoStorage", ids: NewId
) -> None:
    """A notice comes with the commit of a transaction, or not at all."""
    first, second = new_job(ids()), new_job(ids())

    async def play() -> Notice:
        client = storage._checked.store.client  # the application's own is none other
        async with listener.listen(HERE) as notices, client.start_session() as session:
            await session.start_transaction()
            await storage.store_jobs_in(session, [first])
            await session.abort_transaction()
            await storage.store_jobs([second])
            return await anext(notices)

    assert runner.run(play()).tracking_id == second.tracking_id


def test_a_listener_whose_connection_was_cut_is_told_that_it_may_have_missed_something(
    runner: asyncio.Runner, plugins: "Plugins", url: str, storage: "MongoStorage", tmp_path: Path, ids: NewId
) -> None:
    """It listens again by itself, and hears of what comes then (R113)."""
    job = new_job(ids())

    async def play(proxy: FaultProxy) -> list[Notice]:
        listener: MongoStorage = plugins.create_storage(StorageUrl(f"{proxy.url}&timeout=1"))  # type: ignore[assignment]
        await listener.open()
        try:
            async with listener.listen(HERE) as notices:
                proxy.set(refuse=True)
                proxy.cut()
                await asyncio.sleep(0)
                proxy.heal()
                missed = await anext(notices)
                await storage.store_jobs([job])
                return [missed, await anext(n async for n in notices if n.kind is NoticeKind.QUEUED)]
        finally:
            await listener.close()

    with FaultProxy(f"{url}&directConnection=true", tmp_path) as proxy:
        missed, queued = runner.run(play(proxy))

    assert missed == Notice(NoticeKind.MISSED, QUEUE)
    assert queued == Notice(NoticeKind.QUEUED, QUEUE, job.tracking_id)


def test_a_change_whose_job_is_gone_may_have_been_anything() -> None:
    """The server looks the job up when the change is read; a purge may have been quicker."""
    assert to_notice({"operationType": "update", "documentKey": {"_id": UUID(int=1)}, "fullDocument": None}) is None


def test_whoever_does_not_keep_up_is_told_to_look_for_himself(runner: asyncio.Runner) -> None:
    """What waits for a listener is bounded."""
    subscription = Subscription(HERE)
    for number in range(PENDING_MAX + 1):
        subscription.put(Notice(NoticeKind.QUEUED, QUEUE, UUID(int=number)))

    async def play() -> list[Notice]:
        seen = await some(subscription, 1)
        subscription.put(Notice(NoticeKind.QUEUED, QUEUE, UUID(int=1)))
        return [*seen, *await some(subscription, 1)]

    assert runner.run(play()) == [Notice(NoticeKind.MISSED, QUEUE), Notice(NoticeKind.QUEUED, QUEUE, UUID(int=1))]


def test_leaving_and_closing_leave_no_task(runner: asyncio.Runner, make: MakeStorage) -> None:
    """Listening ends with its block, and with the storage (R117)."""
    listener = make("&timeout=20")

    async def play() -> set[str]:
        await listener.open()
        async with listener.listen(HERE):
            pass
        async with listener.listen(HERE):
            await listener.close()
        await asyncio.sleep(0)
        return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert runner.run(play()) == set()
