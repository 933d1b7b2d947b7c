"""The loopback storage: a server with a password, and a client that survives a broken connection."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from pannier.errors import StorageClosedError, StorageRefusedError, StorageUnavailableError, UnstorableError
from pannier.notices import NoticeKind
from pannier.records import Cancellation, JobRecord, JobStatus, Payload
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.builders import T0, claim_of, full_job, new_id, new_job
from pannier_testing.proxy import FaultProxy
from pannier_testing.reference.loopback import Connection, LoopbackProvider, LoopbackServer
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import in_memory, in_model

ID = new_id(Random(1))
PASSWORD = "correct-horse"  # noqa: S105  # of a server that lives for one test


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A server that asks for a password."""
    with LoopbackServer(in_memory, password=PASSWORD) as server:
        yield server


@pytest.fixture
def proxy(server: LoopbackServer, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy before the server."""
    with FaultProxy(f"loopback://me:{PASSWORD}@{server.address}/shop?timeout=2", tmp_path) as proxy:
        yield proxy


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[LoopbackProvider]:
    """Lend an opened client."""
    storage = LoopbackProvider(StorageUrl(url))
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def test_clients_of_one_namespace_share_the_jobs(server: LoopbackServer) -> None:
    """What one client stores, another one of the same namespace sees, and one of another namespace does not."""
    url = f"loopback://me:{PASSWORD}@{server.address}"
    async with opened(f"{url}/a") as first, opened(f"{url}/a") as second, opened(f"{url}/b") as other:
        await first.store_jobs([full_job(ID)])

        assert await second.get_job(ID) == full_job(ID)
        assert await other.get_job(ID) is None


async def test_a_wrong_password_is_refused_and_not_told(server: LoopbackServer) -> None:
    """Who does not know the password gets a clear error, in which no password stands."""
    with pytest.raises(StorageRefusedError, match="password is wrong") as caught:
        async with opened(f"loopback://me:guess-work@{server.address}/a"):
            pass

    assert "guess-work" not in str(caught.value)


async def test_a_server_that_is_down_is_told_without_the_password(proxy: FaultProxy) -> None:
    """A refused connection is StorageUnavailableError, in which no password stands."""
    proxy.set(refuse=True)

    with pytest.raises(StorageUnavailableError) as caught:
        async with opened(proxy.url):
            pass

    assert PASSWORD not in str(caught.value) + repr(caught.value)


async def test_a_silent_server_is_told_within_the_timeout(proxy: FaultProxy) -> None:
    """A call that gets no answer ends after the timeout of the URL."""
    async with opened(f"{proxy.url.partition('?')[0]}?timeout=1") as storage:
        proxy.set(is_silent=True)

        with pytest.raises(StorageUnavailableError, match=r"within 1 s"):
            await storage.get_job(ID)

        proxy.heal()
        assert await storage.get_job(ID) is None


async def test_the_repeat_of_a_lost_reply_changes_nothing(proxy: FaultProxy) -> None:
    """A store and a settlement whose answers are lost were done, and their repeats say so."""
    job = new_job(ID)
    async with opened(proxy.url) as storage:
        proxy.set(reset_after_received=0)
        with pytest.raises(StorageUnavailableError):
            await storage.store_jobs([job])
        proxy.heal()
        assert await storage.store_jobs([job]) == [ID]

        (claimed,) = (await storage.claim_jobs(claim_of())).jobs
        done = [Settlement(claimed.lease, Succeeded(Payload("sent")))]
        proxy.set(reset_after_received=0)
        with pytest.raises(StorageUnavailableError):
            await storage.settle_jobs(done, now=T0)
        proxy.heal()

        assert await storage.settle_jobs(done, now=T0) == frozenset()
        found = await storage.get_job(ID)
        assert found is not None
        assert (found.status, found.result) == (JobStatus.SUCCEEDED, Payload("sent"))


async def test_a_request_that_was_cut_short_did_not_happen(proxy: FaultProxy) -> None:
    """Half a line is no request."""
    async with opened(proxy.url) as storage:
        proxy.set(reset_after_sent=20)
        with pytest.raises(StorageUnavailableError):
            await storage.store_jobs([new_job(ID)])
        proxy.heal()

        assert await storage.get_job(ID) is None


async def test_an_answer_never_goes_to_another_call(proxy: FaultProxy) -> None:
    """After a cancelled call the late answer is dropped with its connection."""
    async with opened(proxy.url) as storage:
        await storage.store_jobs([new_job(ID)])
        proxy.set(latency=0.1)
        call = asyncio.ensure_future(storage.get_job(ID))
        await asyncio.wait({call}, timeout=0.05)
        call.cancel()
        await asyncio.wait({call})
        proxy.heal()

        assert await storage.cancel_job(ID, now=T0) is Cancellation.CANCELLED


async def test_a_listener_is_told_after_a_reconnect_that_it_may_have_missed_something(proxy: FaultProxy) -> None:
    """QUEUED arrives; after a cut MISSED arrives, and then QUEUED again."""
    async with opened(proxy.url) as storage, storage.listen(frozenset({"mail"})) as notices:
        await storage.store_jobs([new_job(ID)])
        assert (await anext(notices)).kind is NoticeKind.QUEUED

        proxy.cut()

        assert (await anext(notices)).kind is NoticeKind.MISSED
        with pytest.raises(StorageUnavailableError):
            await storage.get_job(ID)  # its connection was cut, too
        await storage.store_jobs([new_job(new_id(Random(2)))])
        assert (await anext(notices)).kind is NoticeKind.QUEUED


async def test_what_is_nested_too_deeply_is_unstorable(server: LoopbackServer) -> None:
    """The client says what it can't send, and goes on."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    async with opened(f"loopback://me:{PASSWORD}@{server.address}/a") as storage:
        with pytest.raises(UnstorableError, match="nests deeper") as caught:
            await storage.store_jobs([new_job(new_id(Random(2))), new_job(ID, command=deep)])  # type: ignore[arg-type]  # a tree of lists

        assert caught.value.tracking_id == ID
        assert await storage.get_job(ID) is None


async def test_what_the_server_can_t_hold_is_named_by_the_client() -> None:
    """The id of a job that the server refuses comes back with the reason, and the reason stands there once."""

    class Choosy(Model):
        def store(self, jobs: Iterable[JobRecord]) -> list[UUID]:
            raise UnstorableError(list(jobs)[1].tracking_id, "it is green")

    with LoopbackServer(in_model(Choosy)) as server:
        async with opened(f"loopback://{server.address}/a") as storage:
            with pytest.raises(UnstorableError) as caught:
                await storage.store_jobs([new_job(new_id(Random(2))), new_job(ID)])

    assert (caught.value.tracking_id, caught.value.reason) == (ID, "it is green")


async def test_calls_that_wait_for_their_turn_wait_no_longer_than_the_timeout(proxy: FaultProxy) -> None:
    """Five calls at once of a silent server end after one timeout, not after five."""
    async with opened(f"{proxy.url.partition('?')[0]}?timeout=0.3") as storage:
        proxy.set(is_silent=True)
        began = asyncio.get_running_loop().time()

        answers = await asyncio.gather(*(storage.get_job(ID) for _ in range(5)), return_exceptions=True)

        assert {type(answer) for answer in answers} == {StorageUnavailableError}
        assert asyncio.get_running_loop().time() - began < 1.2
        proxy.heal()


async def test_two_surrogates_in_a_row_stay_two(server: LoopbackServer) -> None:
    """What looks like one character when it is escaped comes back as it was."""
    job = new_job(ID, metadata={"a": "\ud83d\ude00"})
    async with opened(f"loopback://me:{PASSWORD}@{server.address}/a") as storage:
        await storage.store_jobs([job])

        assert await storage.get_job(ID) == job


async def test_an_argument_of_another_type_is_refused_before_it_is_sent(server: LoopbackServer) -> None:
    """Junk is a TypeError that names the argument."""
    async with opened(f"loopback://me:{PASSWORD}@{server.address}/a") as storage:
        with pytest.raises(TypeError, match="wanted"):
            await storage.find_jobs([None])  # type: ignore[arg-type]  # junk


async def test_a_closed_client_says_so(server: LoopbackServer) -> None:
    """After close() a call raises, and closing twice is fine."""
    async with opened(f"loopback://me:{PASSWORD}@{server.address}/a") as storage:
        await storage.close()

        with pytest.raises(StorageClosedError):
            await storage.get_job(ID)


async def test_the_server_lets_go_of_a_listener_that_has_left(server: LoopbackServer) -> None:
    """It does not wait for something to tell: a connection would be held until then (R117)."""
    url = StorageUrl(f"loopback://me:{PASSWORD}@{server.address}/shop")
    connection = await Connection.connect(url, listen=["mail"])

    async with asyncio.timeout(5):
        await connection.leave()
