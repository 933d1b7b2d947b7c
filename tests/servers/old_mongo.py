"""A server that says which version it is, and nothing else: to be refused for its age."""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import bson

OP_QUERY = 2004
OP_REPLY = 1
OP_MSG = 2013


class Handler(socketserver.StreamRequestHandler):
    """Answers every command as `hello` is answered."""

    server: "OldServer"

    def handle(self) -> None:
        """Answer until the client hangs up."""
        while head := self.rfile.read(16):
            length, request, _, kind = struct.unpack("<iiii", head)
            self.rfile.read(length - 16)
            said = bson.encode(
                {
                    "ok": 1,
                    "isWritablePrimary": True,
                    "ismaster": True,
                    "helloOk": True,
                    "minWireVersion": 0,
                    "maxWireVersion": self.server.wire_version,
                }
            )
            if kind == OP_QUERY:
                answer, body = OP_REPLY, struct.pack("<iqii", 0, 0, 0, 1) + said
            else:
                answer, body = OP_MSG, struct.pack("<ib", 0, 0) + said
            self.wfile.write(struct.pack("<iiii", 16 + len(body), 0, request, answer) + body)


class OldServer(socketserver.ThreadingTCPServer):
    """Listens on a port of its own."""

    daemon_threads = True

    def __init__(self, wire_version: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wire_version = wire_version

    @property
    def url(self) -> str:
        """Its URL, without a database."""
        return f"mongodb://127.0.0.1:{self.server_address[1]}"


@contextmanager
def old_server(wire_version: int) -> Iterator[OldServer]:
    """Run one."""
    with OldServer(wire_version) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
