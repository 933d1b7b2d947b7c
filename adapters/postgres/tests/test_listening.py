"""Notices: who hears of what, and what becomes of a listener whose connection is lost (R113, R124)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from pannier.errors import NotSupportedError, StorageClosedError, StorageUnavailableError
from pannier.notices import Notice, NoticeKind
from pannier.purging import StaleJobs
from pannier.records import JobRecord
from pannier.settlements import Release, Settlement, Succeeded
from pannier.storage import add_ons
from pannier.subscription import PENDING_MAX
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, SECOND, T0, claim_of, failed, new_job, retry
from pannier_testing.proxy import FaultProxy

if TYPE_CHECKING:
    from pannier.plugins import Plugins
    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

MakeStorage = Callable[[str], "PostgresStorage"]
NewId = Callable[[], UUID]

HERE = frozenset({QUEUE})
LISTENERS = "FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'"


@pytest.fixture
def listener(runner: asyncio.Runner, make: MakeStorage, schema: str) -> Iterator["PostgresStorage"]:
    """Another instance, whose connections the server's views name after the schema."""
    listener = make(f"&application_name={schema}&timeout=1")
    runner.run(listener.open())
    yield listener
    runner.run(listener.close())


@pytest.fixture
def proxy(make: MakeStorage, url: str, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy before the server."""
    with FaultProxy(url, tmp_path) as proxy:
        yield proxy


async def first(notices: AsyncIterator[Notice], kind: NoticeKind) -> Notice:
    """Return the next notice of *kind*."""
    return await anext(notice async for notice in notices if notice.kind is kind)


async def none_left(other: "Connection", application_name: str) -> None:
    """Wait until the server has seen the last of the connections of that name. The test's own deadline bounds it."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    while await other.fetchval(count, application_name):  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.01)


def test_a_listener_that_is_cancelled_as_it_leaves_keeps_no_connection(
    runner: asyncio.Runner, listener: "PostgresStorage", other: "Connection", schema: str
) -> None:
    """Its connection is closed at once, and not forgotten when the next listener opens one."""
    there, leaves = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async with listener.listen(HERE):
            there.set()
            await leaves.wait()

    async def play() -> list[int]:
        async with asyncio.timeout(20):
            leaver = asyncio.create_task(listen())
            await there.wait()
            leaves.set()
            await asyncio.sleep(0)  # it has begun to leave
            leaver.cancel()
            await asyncio.wait([leaver])
            async with listener.listen(HERE):
                return [await other.fetchval(f"SELECT count(*) {LISTENERS}", schema)]  # no input

    assert runner.run(play()) == [1]


def test_store_settle_and_cancel_are_announced_with_their_queue(
    runner: asyncio.Runner, storage: "PostgresStorage", listener: "PostgresStorage", ids: NewId
) -> None:
    """Each change arrives as its kind; what finished is named, and other queues are none of the listener's business."""
    done, cancelled = new_job(ids()), new_job(ids())

    async def play() -> list[Notice]:
        async with asyncio.timeout(20), listener.listen(HERE) as notices:
            await storage.store_jobs([new_job(ids(), "elsewhere"), done])
            heard = [await anext(notices)]
            (job,) = (await storage.claim_jobs(claim_of())).jobs
            await storage.settle_jobs([Settlement(job.lease, Succeeded())], now=T0)
            heard.append(await anext(notices))
            await storage.store_jobs([cancelled])
            heard.append(await anext(notices))
            await storage.cancel_job(cancelled.tracking_id, now=T0)
            heard.append(await anext(notices))
        return heard

    assert runner.run(play()) == [
        Notice(NoticeKind.QUEUED, QUEUE),
        Notice(NoticeKind.FINISHED, QUEUE, done.tracking_id),
        Notice(NoticeKind.QUEUED, QUEUE),
        Notice(NoticeKind.CANCELLED, QUEUE, cancelled.tracking_id),
    ]


def test_whatever_makes_a_job_due_is_announced(
    runner: asyncio.Runner, storage: "PostgresStorage", listener: "PostgresStorage", ids: NewId
) -> None:
    """A released, retried or requeued job is one for a worker that waits; a failed and an expired one are finished."""
    due, late = new_job(ids()), new_job(ids(), expire_on=T0 + SECOND, execute_after=T0 - SECOND)

    async def claimed() -> JobRecord:
        (job,) = (await storage.claim_jobs(claim_of())).jobs
        return job

    async def play() -> list[NoticeKind]:
        async with asyncio.timeout(20), listener.listen(HERE) as notices:
            await storage.store_jobs([due])
            await storage.settle_jobs([Settlement((await claimed()).lease, Release())], now=T0)
            await storage.settle_jobs([Settlement((await claimed()).lease, retry(T0))], now=T0)
            await storage.settle_jobs([Settlement((await claimed()).lease, failed())], now=T0)
            await storage.requeue_job(due.tracking_id, now=T0 + LEASE, expire_on=None)
            await storage.store_jobs([late])
            await storage.purge_stale_jobs(StaleJobs(now=T0 + SECOND, keep={}, limit=9))
            return [(await anext(notices)).kind for _ in range(7)]

    queued, finished = NoticeKind.QUEUED, NoticeKind.FINISHED
    assert runner.run(play()) == [queued, queued, queued, finished, queued, queued, finished]


def test_a_batch_is_announced_once(
    runner: asyncio.Runner, storage: "PostgresStorage", listener: "PostgresStorage", ids: NewId
) -> None:
    """A notifying commit holds a lock of the whole server: one for each queue and transaction is enough."""

    async def play() -> list[NoticeKind]:
        async with asyncio.timeout(20), listener.listen(HERE) as notices:
            await storage.store_jobs([new_job(ids()) for _ in range(100)])
            jobs = (await storage.claim_jobs(claim_of(limit=100))).jobs
            await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in jobs], now=T0)
            return [(await anext(notices)).kind for _ in range(2)]

    assert runner.run(play()) == [NoticeKind.QUEUED, NoticeKind.FINISHED]


def test_a_queue_s_name_may_hold_anything(
    runner: asyncio.Runner, storage: "PostgresStorage", listener: "PostgresStorage", ids: NewId
) -> None:
    """A colon, a comma, a quote or 255 characters of four bytes in a name are a part of it."""
    names = ["a:b,c:", "';\"", " ", "queued::x", "\U0001f9fa" * 255]

    async def play() -> list[Notice]:
        async with asyncio.timeout(20), listener.listen(frozenset(names)) as notices:
            for name in names:
                await storage.store_jobs([new_job(ids(), name)])
            return [await anext(notices) for _ in names]

    assert runner.run(play()) == [Notice(NoticeKind.QUEUED, name) for name in names]


def test_two_schemas_hear_nothing_of_one_another(
    runner: asyncio.Runner,
    storage: "PostgresStorage",
    listener: "PostgresStorage",
    postgres_url: str,
    plugins: "Plugins",
    ids: NewId,
) -> None:
    """Channels belong to the whole database; a schema has one of its own (R95)."""
    elsewhere = StorageUrl(f"{postgres_url}?schema=e{uuid4().hex}")

    async def play() -> list[Notice]:
        neighbour = plugins.create_storage(elsewhere)
        await neighbour.open()
        async with asyncio.timeout(20), listener.listen(HERE) as notices:
            await neighbour.store_jobs([new_job(ids())])
            await storage.cancel_job((await storage.store_jobs([new_job(ids())]))[0], now=T0)
            heard = [await anext(notices), await anext(notices)]
        await neighbour.close()
        await plugins.adapter_for(elsewhere).destroy(elsewhere)
        return heard

    assert [notice.kind for notice in runner.run(play())] == [NoticeKind.QUEUED, NoticeKind.CANCELLED]


def test_a_listener_whose_connection_was_cut_is_told_that_it_missed_something_and_hears_again(
    runner: asyncio.Runner,
    storage: "PostgresStorage",
    listener: "PostgresStorage",
    other: "Connection",
    schema: str,
    ids: NewId,
) -> None:
    """It connects anew by itself; what happened meanwhile nobody knows, what happens from then on arrives."""

    async def play() -> list[Notice]:
        async with asyncio.timeout(30), listener.listen(frozenset({QUEUE, "more"})) as notices:
            await other.fetch(f"SELECT pg_terminate_backend(pid) {LISTENERS}", schema)
            heard = [await anext(notices), await anext(notices)]
            await storage.store_jobs([new_job(ids())])
            return [*heard, await anext(notices)]

    assert runner.run(play()) == [
        Notice(NoticeKind.MISSED, QUEUE),
        Notice(NoticeKind.MISSED, "more"),
        Notice(NoticeKind.QUEUED, QUEUE),
    ]


def test_a_peer_that_vanished_without_a_goodbye_is_noticed(
    runner: asyncio.Runner,
    storage: "PostgresStorage",
    make: MakeStorage,
    plugins: "Plugins",
    proxy: FaultProxy,
    ids: NewId,
) -> None:
    """The listening connection is asked for a sign of life each timeout; one that gives none is replaced."""

    async def play() -> list[Notice]:
        listener = plugins.create_storage(StorageUrl(f"{proxy.url}&timeout=0.5"))
        await listener.open()
        async with asyncio.timeout(30), listener.listen(HERE) as notices:  # type: ignore[attr-defined]
            before = proxy.connections
            proxy.set(is_silent=True)
            while proxy.connections == before:  # noqa: ASYNC110  # the proxy tells nobody
                await asyncio.sleep(0.01)
            await storage.store_jobs([new_job(ids())])
            proxy.cut()
            proxy.heal()
            heard = [await first(notices, NoticeKind.MISSED)]
            await storage.store_jobs([new_job(ids())])
            heard.append(await first(notices, NoticeKind.QUEUED))
        await listener.close()
        return heard

    assert [notice.kind for notice in runner.run(play())] == [NoticeKind.MISSED, NoticeKind.QUEUED]


def test_a_listener_that_does_not_keep_up_is_told_to_look_for_itself(
    runner: asyncio.Runner, storage: "PostgresStorage", listener: "PostgresStorage", other: "Connection", schema: str
) -> None:
    """A bounded number of notices waits for it."""

    async def play() -> list[Notice]:
        async with asyncio.timeout(20), listener.listen(HERE) as notices, listener.listen(HERE) as quick:
            for number in range(PENDING_MAX + 1):
                await other.execute(f"SELECT pg_notify('pannier.{schema}', 'cancelled:{UUID(int=number)}:{QUEUE}')")
                await anext(quick)
            await storage.store_jobs([new_job(UUID(int=1))])
            return [await anext(notices), await anext(notices)]

    assert runner.run(play()) == [Notice(NoticeKind.MISSED, QUEUE), Notice(NoticeKind.QUEUED, QUEUE)]


@pytest.mark.parametrize("payload", ["", "x", "queued", "later::mail", "finished:1:mail", "queued:,:mail", "::mail"])
def test_what_others_announce_on_the_channel_does_no_harm(
    runner: asyncio.Runner,
    storage: "PostgresStorage",
    listener: "PostgresStorage",
    other: "Connection",
    schema: str,
    ids: NewId,
    payload: str,
) -> None:
    """Anybody may announce anything; what can't be read is passed over."""

    async def play() -> Notice:
        async with asyncio.timeout(20), listener.listen(HERE) as notices:
            await other.execute(f"SELECT pg_notify('pannier.{schema}', '{payload}')")
            await storage.store_jobs([new_job(ids())])
            return await anext(notices)

    assert runner.run(play()) == Notice(NoticeKind.QUEUED, QUEUE)


def test_listeners_of_one_instance_share_a_connection_and_the_last_one_closes_it(
    runner: asyncio.Runner, listener: "PostgresStorage", other: "Connection", schema: str
) -> None:
    """However many listen, the server is asked for one more connection, and for none once nobody does."""

    async def play() -> list[int]:
        counts = []
        async with listener.listen(HERE):
            async with listener.listen(frozenset({"more"})), listener.listen(HERE):
                counts.append(await other.fetchval(f"SELECT count(*) {LISTENERS}", schema))
            counts.append(await other.fetchval(f"SELECT count(*) {LISTENERS}", schema))
        await none_left(other, schema)
        return counts

    assert runner.run(play()) == [1, 1]


def test_listening_to_a_server_that_is_not_there_is_an_error_at_once(
    runner: asyncio.Runner, plugins: "Plugins", proxy: FaultProxy, make: MakeStorage
) -> None:
    """Whoever comes to listen learns that it can't, within the timeout."""

    async def play() -> None:
        listener = plugins.create_storage(StorageUrl(f"{proxy.url}&timeout=1"))
        await listener.open()
        proxy.set(refuse=True)
        with pytest.raises(StorageUnavailableError):
            async with listener.listen(HERE):  # type: ignore[attr-defined]
                pass
        await listener.close()

    runner.run(play())


@pytest.mark.parametrize("notify", ["send", "off"])
def test_a_storage_that_does_not_listen_says_so(runner: asyncio.Runner, make: MakeStorage, notify: str) -> None:
    """The add-on is withheld, and asking for it is an error with the reason."""
    storage = make(f"&notify={notify}")
    runner.run(storage.open())
    with pytest.raises(NotSupportedError, match=f"notify={notify}"):
        storage.listen(HERE)

    assert add_ons(storage) == {"inspect", "results", "transactions"}
    runner.run(storage.close())


def test_notify_send_announces_and_notify_off_does_not(
    runner: asyncio.Runner, make: MakeStorage, listener: "PostgresStorage", ids: NewId
) -> None:
    """A storage behind a pooler still wakes workers that listen; one that is told to be silent sends nothing."""

    async def play() -> Notice:
        silent, sending = make("&notify=off"), make("&notify=send")
        await silent.open()
        await sending.open()
        async with asyncio.timeout(20), listener.listen(HERE) as notices:
            first, second = new_job(ids()), new_job(ids())
            await silent.store_jobs([first])
            await silent.cancel_job(first.tracking_id, now=T0)
            await sending.store_jobs([second])
            heard = await anext(notices)
        await silent.close()
        await sending.close()
        return heard

    assert runner.run(play()) == Notice(NoticeKind.QUEUED, QUEUE)


def test_listening_to_a_closed_storage_is_an_error(runner: asyncio.Runner, storage: "PostgresStorage") -> None:
    """As every other use of it (R93)."""
    runner.run(storage.close())
    with pytest.raises(StorageClosedError, match="not open"):
        storage.listen(HERE)


def test_closing_while_somebody_listens_leaves_nothing_behind(
    runner: asyncio.Runner, listener: "PostgresStorage", other: "Connection", schema: str
) -> None:
    """Connection and task end with the storage (R117)."""

    async def play() -> set[str]:
        async with listener.listen(HERE):
            await listener.close()
            await none_left(other, schema)
        return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert runner.run(play()) == set()
