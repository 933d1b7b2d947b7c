"""
A proxy with faults, between a storage and its server: for TCP and for Unix sockets.

It runs on a thread of its own, so that a storage which blocks its loop does not stop it. Faults are switched on and off
while connections are open.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from attrs import define

from pannier.urls import StorageUrl
from pannier_testing.checks import BlockedError

GOES_PAST: Final = (
    "the storage asks its server for other addresses and goes past the proxy; add the option to the URL that makes its "
    "driver keep to the address given (MongoDB: directConnection=true)"
)
"""What to say where a proxy was asked for and nothing comes by."""


@define(kw_only=True)
class Faults:
    """
    What goes wrong at the moment.

    Attributes:
        refuse: New connections are closed at once.
        reset_after_sent: Both ends are reset once so many more bytes have gone to the server.
        reset_after_received: Likewise for bytes that come from the server; 0: the next answer is lost whole.
        mute_after_received: Once so many more bytes have come from the server, what it says is held back; what is sent
            to it arrives, and nothing is closed.
        is_silent: Nothing passes, and nothing is closed.
        latency: Seconds that each piece waits.
    """

    refuse: bool = False
    reset_after_sent: int | None = None
    reset_after_received: int | None = None
    mute_after_received: int | None = None
    is_silent: bool = False
    latency: float = 0.0


class Direction(StrEnum):
    """Which way bytes go."""

    SENT = "sent"
    RECEIVED = "received"


class FaultProxy:
    """
    Stands before one server address. Use as a context manager; read `url` for the address to go through it.

    Attributes:
        connections: How many were made so far, refused ones included.
        sent: How many bytes have gone to the server since the faults were last set.
        received: Likewise from the server.
        strikes: How often a fault that waits for a number of bytes has happened so far.
    """

    def __init__(self, url: str, tmp: Path) -> None:
        self._upstream = server_of(url)
        self._given = url
        self._tmp = tmp
        self._faults = Faults()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._may_pass = {direction: asyncio.Event() for direction in Direction}
        for event in self._may_pass.values():
            event.set()
        self.connections = self.sent = self.received = self.strikes = 0

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """The storage's URL, through the proxy."""
        assert self._server is not None
        parts = urlsplit(self._given)
        if isinstance(self._upstream, Path):
            old = quote(str(self._upstream.parent), safe="")
            plain = str(self._upstream.parent)
            query = parts.query.replace(f"host={old}", f"host={self._tmp}").replace(
                f"host={plain}", f"host={self._tmp}"
            )
            return urlunsplit(parts._replace(query=query))
        credentials, at, _ = parts.netloc.rpartition("@")
        _, port = self._server.sockets[0].getsockname()
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))

    def set(self, **faults: object) -> None:
        """Replace all faults by those named; none: everything is well again. Counting of bytes begins anew."""
        new = Faults(**faults)  # type: ignore[arg-type]  # the fields of Faults

        async def change() -> None:
            self._faults, self.sent, self.received = new, 0, 0
            for event in self._may_pass.values():
                (event.clear if new.is_silent else event.set)()

        asyncio.run_coroutine_threadsafe(change(), self._loop).result()

    def heal(self) -> None:
        """Let everything pass. Connections that went silent stay open and go on."""
        self.set()

    def cut(self) -> None:
        """Reset every open connection."""

        async def reset() -> None:
            self._cut_soon()

        asyncio.run_coroutine_threadsafe(reset(), self._loop).result()

    async def _listen(self) -> None:
        if isinstance(self._upstream, Path):
            path = self._tmp / self._upstream.name
            self._server = await asyncio.start_unix_server(self._accept, path)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _stop(self) -> None:
        """Listen no more, and end every connection, those that are just being made included."""
        assert self._server is not None
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        await _turns()  # what was accepted a moment ago begins: before that, neither server nor task could clean it up
        self._server.close()
        while self._open:
            for task in self._open:
                task.cancel()
            await asyncio.wait(list(self._open))
        await _turns()  # what was aborted closes

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = (writer,)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._relay(task, reader, writer)
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _relay(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes on in both directions until one end is closed."""
        if self._faults.refuse:
            self._reset((writer,))
            return
        try:
            if isinstance(self._upstream, Path):
                there, answer = await asyncio.open_unix_connection(self._upstream)
            else:
                there, answer = await asyncio.open_connection(*self._upstream)
        except OSError:
            self._reset((writer,))
            return
        self._open[task] = (writer, answer)
        pumps = (
            asyncio.ensure_future(self._pump(reader, answer, Direction.SENT)),
            asyncio.ensure_future(self._pump(there, writer, Direction.RECEIVED)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answer.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        may_pass = self._may_pass[direction]
        while data := await reader.read(65536):
            await asyncio.sleep(self._faults.latency)
            await may_pass.wait()
            room = self._room(direction)
            passing, held = (data, b"") if room is None else (data[:room], data[room:])
            self._count(direction, len(passing))
            writer.write(passing)
            await writer.drain()
            if held:
                self.strikes += 1
                if self._faults.mute_after_received is None:
                    self._cut_soon()
                    return
                may_pass.clear()
                await may_pass.wait()
                self._count(direction, len(held))
                writer.write(held)
                await writer.drain()

    def _cut_soon(self) -> None:
        """Reset every open connection, from the proxy's own thread."""
        for writers in list(self._open.values()):
            self._reset(writers)

    def _room(self, direction: Direction) -> int | None:
        """Return how many more bytes may pass."""
        if direction is Direction.SENT:
            limit, used = self._faults.reset_after_sent, self.sent
        else:
            limits = (self._faults.reset_after_received, self._faults.mute_after_received)
            limit, used = next((each for each in limits if each is not None), None), self.received
        return None if limit is None else max(0, limit - used)

    def _count(self, direction: Direction, count: int) -> None:
        if direction is Direction.SENT:
            self.sent += count
        else:
            self.received += count

    def _reset(self, writers: tuple[asyncio.StreamWriter, ...]) -> None:
        """Close with RST where there is such a thing, not with an orderly FIN."""
        for writer in writers:
            ends = writer.get_extra_info("socket")
            if ends is not None and ends.family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(OSError):
                    ends.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def _turns() -> None:
    """Give the event loop a few turns: a connection takes three from the socket to its first step."""
    for _ in range(10):
        await asyncio.sleep(0)


def server_of(url: str) -> tuple[str, int] | Path:
    """
    Return the address of the server that *url* names: host and port, or the path of a Unix socket.

    Raises:
        BlockedError: It names none that a proxy can stand before.
    """
    folder = StorageUrl(url).options.get("host", "")
    if folder.startswith("/"):
        sockets = sorted(path for path in Path(folder).iterdir() if path.is_socket())
        if len(sockets) != 1:
            raise BlockedError(f"{folder} holds {len(sockets)} sockets; the proxy needs exactly one")
        return sockets[0]
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise BlockedError("the URL names no port, so no proxy can stand before the server")
    return parts.hostname, parts.port
