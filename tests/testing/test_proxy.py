"""The fault proxy, over TCP and over a Unix socket: everything that can go wrong with a connection, and its healing."""

import asyncio
import gc
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from pannier_testing.checks import BlockedError
from pannier_testing.proxy import FaultProxy, server_of

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 10


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    """Over which kind of socket."""
    kind: str = request.param
    return kind


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line with itself."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def proxied(kind: str, tmp: Path) -> AsyncIterator[FaultProxy]:
    """Lend a proxy before a server that echoes lines."""
    (tmp / "server").mkdir()
    (tmp / "proxy").mkdir()
    if kind == "unix":
        server = await asyncio.start_unix_server(echo, tmp / "server" / ".s.1")
        url = f"echo://me:secret@/name?host={tmp}/server&port=1"
    else:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        url = f"echo://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/name"
    try:
        with FaultProxy(url, tmp / "proxy") as proxy:
            yield proxy
    finally:
        server.close()


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect through the proxy's URL."""
    where = server_of(proxy.url)
    if isinstance(where, Path):
        return await asyncio.open_unix_connection(where)
    return await asyncio.open_connection(*where)


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator["Callable[[bytes], asyncio.Task[bytes]]"]:
    """Lend a function that sends a line through the proxy and gives its answer; b"" where the connection is lost."""
    reader, writer = await connect(proxy)

    async def ask(line: bytes) -> bytes:
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readline()
        except ConnectionError:
            return b""

    try:
        yield lambda line: asyncio.ensure_future(asyncio.wait_for(ask(line), DEADLINE))
    finally:
        writer.transport.abort()


async def test_bytes_pass_both_ways(kind: str, tmp_path: Path) -> None:
    """Without a fault the proxy is not noticed, megabytes included."""
    line = b"x" * 60_000 + b"\n"
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        assert await ask(line) == line
        assert proxy.connections == 1


async def test_its_url_differs_in_the_address_alone(kind: str, tmp_path: Path) -> None:
    """User, password, name and the rest of the URL stand as they were."""
    async with proxied(kind, tmp_path) as proxy:
        parts = urlsplit(proxy.url)

        assert (parts.scheme, parts.username, parts.password, parts.path) == ("echo", "me", "secret", "/name")
        assert "/server" not in proxy.url


async def test_it_refuses_new_connections(kind: str, tmp_path: Path) -> None:
    """A new connection is closed at once; one that stands goes on."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as old:
        assert await old(b"1\n") == b"1\n"
        proxy.set(refuse=True)

        answer = b""
        with suppress(ConnectionResetError):  # which may meet the client before it knows that it is connected
            async with connected(proxy) as new:
                answer = await new(b"2\n")
        assert answer == b""
        assert await old(b"3\n") == b"3\n"


async def test_it_resets_after_so_many_bytes_were_sent(kind: str, tmp_path: Path) -> None:
    """With room for 5 bytes one line of 4 passes, and the next breaks the connection."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        proxy.set(reset_after_sent=5)

        assert await ask(b"123\n") == b"123\n"
        assert await ask(b"456\n") == b""


async def test_it_drops_a_reply_that_the_server_gave(kind: str, tmp_path: Path) -> None:
    """With no room for an answer the server does what was asked, and the client never learns of it."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        proxy.set(reset_after_received=0)

        assert await ask(b"123\n") == b""


async def test_it_counts_what_passes_and_says_when_it_has_struck(kind: str, tmp_path: Path) -> None:
    """Both directions are counted anew whenever the faults are set, and a fault at a position is seen to happen."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        assert await ask(b"123\n") == b"123\n"
        assert (proxy.sent, proxy.received, proxy.strikes) == (4, 4, 0)

        proxy.set(reset_after_received=2)

        assert await ask(b"4567\n") in {b"", b"45"}
        assert (proxy.sent, proxy.received, proxy.strikes) == (5, 2, 1)


async def test_a_mute_server_hears_and_is_not_heard(kind: str, tmp_path: Path) -> None:
    """After so many bytes its answers are held back, on all connections, until the healing."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        proxy.set(mute_after_received=6)
        assert await ask(b"123\n") == b"123\n"
        question = ask(b"456\n")
        async with connected(proxy) as other:
            done, _ = await asyncio.wait({question, other(b"7\n")}, timeout=0.2)
        assert not done
        assert (proxy.sent, proxy.received, proxy.strikes) == (10, 6, 1)

        proxy.heal()

        assert await question == b"456\n"


async def test_it_heals(kind: str, tmp_path: Path) -> None:
    """After heal() a new connection works like the first one did."""
    async with proxied(kind, tmp_path) as proxy:
        proxy.set(reset_after_sent=0)
        async with connected(proxy) as ask:
            assert await ask(b"1\n") == b""

        proxy.heal()

        async with connected(proxy) as ask:
            assert await ask(b"2\n") == b"2\n"


async def test_a_black_hole_keeps_bytes_until_it_heals(kind: str, tmp_path: Path) -> None:
    """Nothing passes and nothing is closed; what was sent meanwhile arrives after the healing."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        assert await ask(b"1\n") == b"1\n"
        proxy.set(is_silent=True)
        question = ask(b"2\n")
        done, _ = await asyncio.wait({question}, timeout=0.2)
        assert not done

        proxy.heal()

        assert await question == b"2\n"


async def test_a_black_hole_lets_new_connections_in_and_answers_nothing(kind: str, tmp_path: Path) -> None:
    """A server that is silent accepts; only a timeout of one's own ends the waiting."""
    async with proxied(kind, tmp_path) as proxy:
        proxy.set(is_silent=True)

        async with connected(proxy) as ask:
            done, _ = await asyncio.wait({ask(b"1\n")}, timeout=0.2)

            assert not done


async def test_latency_holds_each_piece_back(kind: str, tmp_path: Path) -> None:
    """A question and its answer are each held back as long as asked."""
    async with proxied(kind, tmp_path) as proxy, connected(proxy) as ask:
        proxy.set(latency=0.1)
        began = asyncio.get_running_loop().time()

        assert await ask(b"1\n") == b"1\n"

        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_it_cuts_what_is_open(kind: str, tmp_path: Path) -> None:
    """cut() breaks open connections, and new ones are served."""
    async with proxied(kind, tmp_path) as proxy:
        async with connected(proxy) as ask:
            assert await ask(b"1\n") == b"1\n"

            proxy.cut()

            assert await ask(b"2\n") == b""
        async with connected(proxy) as ask:
            assert await ask(b"3\n") == b"3\n"


async def test_a_connection_over_tcp_ends_with_a_reset(tmp_path: Path) -> None:
    """What the client sees is a reset, not an orderly end."""
    async with proxied("tcp", tmp_path) as proxy:
        reader, writer = await connect(proxy)
        writer.write(b"1\n")
        await reader.readline()

        proxy.cut()

        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.transport.abort()


def test_a_url_without_a_server_is_blocked() -> None:
    """There is nothing that a proxy could stand before."""
    with pytest.raises(BlockedError, match="no port"):
        server_of("sqlite:///jobs.db")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """See that the proxy's thread ends with it."""
    yield
    assert "fault-proxy" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_proxy_that_stops_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are just being made are closed, too: the garbage collector has nothing to complain of."""
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda complaint: complaints.append(complaint.exc_value))

    with socket.create_server(("127.0.0.1", 0), backlog=100) as upstream:
        for _ in range(20):
            with FaultProxy(f"echo://127.0.0.1:{upstream.getsockname()[1]}/name", tmp_path) as proxy:
                parts = urlsplit(proxy.url)
                clients = [socket.create_connection((str(parts.hostname), parts.port or 0)) for _ in range(3)]
            for client in clients:
                client.close()
            gc.collect()

    assert complaints == []
