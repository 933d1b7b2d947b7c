"""
A storage behind a small TCP server, for the rules of a connection that breaks: the client is a storage, `loopback://`.

A frame is a line of JSON. A client has one connection for calls, and one for each listener. The server asks for a
password, if it has one.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pannier import jsontext
from pannier.checks import require, require_int, require_positive
from pannier.claims import Claim, Claimed
from pannier.errors import (
    PannierError,
    StorageClosedError,
    StorageRefusedError,
    StorageUnavailableError,
    UnstorableError,
)
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import utc
from pannier.notices import Notice, NoticeKind
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Json, Lease, Payload, StoredResult
from pannier.settlements import Settlement, Succeeded
from pannier.storage import (
    Capabilities,
    JobInspector,
    JobNotifier,
    JobResultProvider,
    JobStorageProvider,
    check_new_jobs,
)
from pannier.urls import StorageUrl
from pannier_testing import wire
from pannier_testing.reference.provider import CAPABILITIES, every

T = TypeVar("T")


class WholeStorage(JobStorageProvider, JobResultProvider, JobInspector, JobNotifier, Protocol):
    """A storage that has every add-on but transactions."""


LINE_LIMIT = 2**28
OPTIONS = {"timeout": "seconds that a call may take, 5 by default"}


class LoopbackServer:
    """
    A server on a thread of its own. Use as a context manager.

    Args:
        make_storage: Makes an instance of the store of that name, for each connection.
        password: What a client must know.
    """

    def __init__(self, make_storage: Callable[[str], WholeStorage], *, password: str = "") -> None:
        self._make_storage = make_storage
        self._password = password
        self._stores: dict[str, tuple[str, WholeStorage]] = {}  # of a namespace: its name there, and who keeps it
        self._opening = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopback-server", daemon=True)
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Return where it listens, as "host:port"."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> "LoopbackServer":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=LINE_LIMIT)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        for _, keeper in self._stores.values():
            await keeper.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._talks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello: Any = wire.from_line(await reader.readline() or b"null\n")
        if hello is None:
            return
        if hello["password"] != self._password:
            await _send(writer, {"error": "StorageRefusedError", "message": "the password is wrong"})
            return
        namespace: str = hello["namespace"]
        storage = self._make_storage(await self._store(namespace))
        await storage.open()
        try:
            await self._converse(storage, namespace, hello.get("listen"), reader, writer)
        finally:
            await storage.close()

    async def _store(self, namespace: str) -> str:
        """Return the name of the store of *namespace*, which is kept from now on."""
        async with self._opening:
            if namespace not in self._stores:
                name = uuid4().hex
                self._stores[namespace] = name, self._make_storage(name)
                await self._stores[namespace][1].open()
            return self._stores[namespace][0]

    async def _destroy(self, namespace: str) -> None:
        """Keep the store no longer: who comes next gets another one."""
        async with self._opening:
            _, keeper = self._stores.pop(namespace)
            await keeper.close()

    async def _converse(
        self,
        storage: WholeStorage,
        namespace: str,
        listened: list[str] | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if listened is None:
            await _send(writer, {"answer": None})
            while line := await reader.readline():
                await _send(writer, await self._answer(storage, namespace, line))
            return
        async with storage.listen(frozenset(listened)) as notices:
            await _send(writer, {"answer": None})
            telling = asyncio.create_task(_tell(notices, writer))
            leaving = asyncio.create_task(reader.read())  # a listener asks nothing more: what comes is its end
            try:
                await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                telling.cancel()
                leaving.cancel()
                await asyncio.gather(telling, leaving, return_exceptions=True)

    async def _answer(self, storage: WholeStorage, namespace: str, line: bytes) -> Json:
        question: Any = wire.from_line(line)
        if question["call"] == "destroy":
            await self._destroy(namespace)
            return {"answer": None}
        verb, arguments = question["call"], wire.decode_arguments(question["call"], question["arguments"])
        try:
            return {"answer": wire.encode(await getattr(storage, verb)(**arguments), wire.VERBS[verb].answer)}
        except UnstorableError as error:
            tracking_id = None if error.tracking_id is None else str(error.tracking_id)
            return {"error": "UnstorableError", "message": error.reason, "tracking_id": tracking_id}
        except (PannierError, ValueError, TypeError) as error:
            return {"error": type(error).__name__, "message": str(error)}


async def _tell(notices: AsyncIterator[Notice], writer: asyncio.StreamWriter) -> None:
    async for notice in notices:
        await _send(writer, wire.encode(notice, Notice))


async def _send(writer: asyncio.StreamWriter, tree: Json) -> None:
    writer.write(wire.to_line(tree))
    await writer.drain()


class Connection:
    """One connection of a client, past the greeting."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: StorageUrl, **greeting: Json) -> "Connection":
        """Connect and greet."""
        parts = urlsplit(url.text)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=LINE_LIMIT)
        connection = cls(reader, writer)
        try:
            await connection.ask({"namespace": url.path, "password": parts.password or "", **greeting})
        except BaseException:  # a cancellation, too: nobody else knows this connection
            connection.drop()
            raise
        return connection

    async def ask(self, question: Json) -> Json:
        """Send *question* and return the answer."""
        await _send(self._writer, question)
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        answer: Any = wire.from_line(line)
        if "error" in answer:
            raise _error_of(answer)
        result: Json = answer["answer"]
        return result

    def drop(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def leave(self) -> None:
        """Close, once the server has. No call is in progress."""
        try:
            self._writer.write_eof()
            await self.reader.read()
        finally:
            self.drop()
            with suppress(OSError):
                await self._writer.wait_closed()


def _error_of(answer: Mapping[str, Any]) -> Exception:
    message = answer["message"]
    match answer["error"]:
        case "UnstorableError":
            return UnstorableError(answer["tracking_id"] and UUID(answer["tracking_id"]), message)
        case "TypeError":
            return TypeError(message)
        case "ValueError":
            return ValueError(message)
        case _:
            return StorageRefusedError(message)


class LoopbackProvider:
    """The storage at the client's end."""

    def __init__(self, url: StorageUrl, capabilities: Capabilities = CAPABILITIES) -> None:
        url.check_options(OPTIONS)
        self.url = url
        self._capabilities = capabilities
        self.timeout = float(url.options.get("timeout", "5"))
        self._opened_by: int | None = None
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises."""
        return self._capabilities

    async def open(self) -> None:
        """Connect."""
        self._opened_by = os.getpid()
        await self.in_turn(self.connected)

    async def close(self) -> None:
        """Disconnect; who does not let us go in time, or is in the middle of an answer, is hung up on."""
        is_of_a_fork = self._opened_by not in (None, os.getpid())
        self._opened_by = None
        if is_of_a_fork:
            # The connection is its parent's, and is not even forgotten: collected as garbage it would leave the event
            # loop, whose epoll both processes share, and its parent would wait for answers in vain.
            return
        connection = self._connection
        if connection is not None and not self._turn.locked():
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(self.timeout):
                    await connection.leave()
        self.drop()

    async def destroy(self) -> None:
        """Remove everything in the namespace."""
        await self.open()
        await self.in_turn(lambda: self.ask({"call": "destroy"}))
        await self.close()

    async def call(self, verb: str, **arguments: object) -> Any:  # the verb decides the type
        """Call a verb over there."""
        self._check_open()
        question: Json = {"call": verb, "arguments": wire.encode_arguments(verb, arguments)}
        answer = await self.in_turn(lambda: self.ask(question))
        return wire.decode(answer, wire.VERBS[verb].answer)

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work* once nobody else uses the connection. The waiting counts, too."""
        try:
            async with asyncio.timeout(self.timeout), self._turn:
                return await self.exchange(work)
        except (OSError, TimeoutError) as error:
            raise self.unavailable() from error

    async def exchange(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work*. What breaks it off drops the connection: a late answer would be taken for the next one's."""
        is_whole = False
        try:
            answer = await work()
            is_whole = True
            return answer
        except (StorageRefusedError, UnstorableError, ValueError, TypeError):
            is_whole = True
            raise
        finally:
            if not is_whole:
                self.drop()

    async def ask(self, question: Json) -> Json:
        """Send *question*, over a new connection where there is none, and return the answer."""
        connection = await self.connected()
        return await connection.ask(question)

    async def connected(self) -> Connection:
        """Return the connection."""
        if self._connection is None:
            self._connection = await Connection.connect(self.url)
        return self._connection

    def drop(self) -> None:
        """Close the connection, so that the next call makes a new one."""
        if self._connection is not None:
            self._connection.drop()
        self._connection = None

    def unavailable(self) -> StorageUnavailableError:
        """Return the error that says that nobody answers."""
        return StorageUnavailableError(f"{self.url} did not answer within {self.timeout:g} s")

    def _check_open(self) -> None:
        if self._opened_by != os.getpid():
            raise StorageClosedError("this storage is not open in this process; await its open() first")

    async def read_clock(self) -> datetime | None:
        """It has none."""
        answer: datetime | None = await self.call("read_clock")
        return answer

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs."""
        check_new_jobs(jobs)
        for job in jobs:
            _check_writable(job.tracking_id, job.command)
        answer: list[UUID] = await self.call("store_jobs", jobs=list(jobs))
        return answer

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        require(claim, Claim, "claim")
        answer: Claimed = await self.call("claim_jobs", claim=claim)
        return answer

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases."""
        kept = every(Lease, leases, "leases")
        require_positive(lease_for, "lease_for")
        answer: frozenset[Lease] = await self.call(
            "renew_leases", leases=kept, now=utc(now, "now"), lease_for=lease_for
        )
        return answer

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes."""
        kept = every(Settlement, settlements, "settlements")
        for settlement in kept:
            if isinstance(settlement.outcome, Succeeded) and settlement.outcome.result is not None:
                _check_writable(settlement.lease.tracking_id, settlement.outcome.result)
        answer: frozenset[Lease] = await self.call("settle_jobs", settlements=kept, now=utc(now, "now"))
        return answer

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job."""
        require(tracking_id, UUID, "tracking_id")
        answer: Cancellation = await self.call("cancel_job", tracking_id=tracking_id, now=utc(now, "now"))
        return answer

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up."""
        require(tracking_id, UUID, "tracking_id")
        answer: JobRecord | None = await self.call("get_job", tracking_id=tracking_id)
        return answer

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Do one step of cleaning."""
        require(stale, StaleJobs, "stale")
        answer: Purged = await self.call("purge_stale_jobs", stale=stale)
        return answer

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep progress under a lease."""
        require(lease, Lease, "lease")
        require(progress, Payload, "progress")
        _check_writable(lease.tracking_id, progress)
        answer: bool = await self.call("store_progress", lease=lease, progress=progress)
        return answer

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Look a result up."""
        require(tracking_id, UUID, "tracking_id")
        answer: StoredResult | None = await self.call("get_job_result", tracking_id=tracking_id)
        return answer

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List jobs."""
        require(wanted, JobFilter, "wanted")
        require_int(limit, "limit", minimum=1)
        answer: JobPage = await self.call("find_jobs", wanted=wanted, cursor=cursor, limit=limit)
        return answer

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count jobs."""
        require(wanted, JobFilter, "wanted")
        answer: Mapping[tuple[str, JobStatus], int] = await self.call("count_jobs", wanted=wanted)
        return answer

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job pending again."""
        require(tracking_id, UUID, "tracking_id")
        answer: Requeue = await self.call("requeue_job", tracking_id=tracking_id, now=now, expire_on=expire_on)
        return answer

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe to queues, on a connection of its own."""
        self._check_open()
        listener = self.listener(queue_ids)
        try:
            async with asyncio.timeout(self.timeout):
                await listener.connect()
        except (OSError, TimeoutError) as error:
            raise self.unavailable() from error
        try:
            yield listener.notices()
        finally:
            listener.drop()

    def listener(self, queue_ids: frozenset[str]) -> "Listener":
        """Return a subscription to *queue_ids* that is not connected yet."""
        return Listener(self.url, queue_ids, self.missed(queue_ids))

    def missed(self, queue_ids: frozenset[str]) -> list[Notice]:
        """Return what a listener is told after a reconnect: that it may have missed something in each queue."""
        return [Notice(NoticeKind.MISSED, queue_id) for queue_id in sorted(queue_ids)]


def _check_writable(tracking_id: UUID, payload: Payload) -> None:
    """Refuse what a line can't carry, naming the job whose it is."""
    if not isinstance(payload.data, bytes):
        try:
            jsontext.dump(payload.data)
        except ValueError as error:
            raise UnstorableError(tracking_id, str(error)) from error


class Listener:
    """A subscription that connects again whenever its connection breaks."""

    def __init__(self, url: StorageUrl, queue_ids: frozenset[str], missed: list[Notice]) -> None:
        self._url = url
        self._queue_ids: list[Json] = [*sorted(queue_ids)]
        self._missed = missed
        self._connection: Connection | None = None

    async def connect(self) -> None:
        """Connect and subscribe."""
        self._connection = await Connection.connect(self._url, listen=self._queue_ids)

    def drop(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.drop()

    async def notices(self) -> AsyncIterator[Notice]:
        """Give notices as they come, and after a reconnect MISSED."""
        while True:
            assert self._connection is not None
            line = b""
            with suppress(OSError):
                line = await self._connection.reader.readline()
            if line.endswith(b"\n"):
                yield wire.decode(wire.from_line(line), Notice)
                continue
            await self.reconnect()
            for notice in self._missed:
                yield notice

    async def reconnect(self) -> None:
        """Try again until the server is back."""
        self.drop()
        while True:
            try:
                await self.connect()
            except (OSError, StorageRefusedError):
                await self.pause()
            else:
                return

    async def pause(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(0.1)
