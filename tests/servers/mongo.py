"""
A server that speaks MongoDB's wire protocol, for tests: SecantusDB from its wheel, in a process of its own.

    python -m tests.servers.mongo -- pytest adapters/mongo
    python -m tests.servers.mongo -- pannier certify "{url}/{namespace}?directConnection=true"
    python -m tests.servers.mongo --standalone -- pannier certify "{url}/{namespace}"

starts a server, exports its URL as PANNIER_TEST_MONGODB_URL, puts it in place of each "{url}", runs the command, and
stops the server. A member of a replica set tells its driver another address than the suite's fault proxy has, hence
directConnection. Where the variable is set already, that server is used and none is started. The server is a replica
set of one node; with --standalone it is none, and has no change streams.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attrs import define, field

URL_VARIABLE: Final = "PANNIER_TEST_MONGODB_URL"

STANDALONE: Final = "--standalone"
"""Makes the server no member of a replica set."""

AUTH: Final = "--auth"
"""Makes the server ask for a password. The users must have been created while it did not."""

FAIL_POINTS: Final = "--enable-test-commands"
"""Lets a test make commands fail, as they do while a replica set elects another primary: `configureFailPoint`."""

START_SECONDS: Final = 60.0
"""How long a server may take until it answers: it imports a lot, and the machine may be busy."""

MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in it
"""
Where the data lies, if there is such a place: a file system in memory, in which a file survives the death of whoever
wrote it as it does elsewhere. The stand-in writes each document of a command through to the disk by itself, so that a
disk that others are busy with keeps all its clients waiting for seconds. What a disk keeps without power no test shows.
"""

PROGRAM: Final = "import sys; from secantus.cli import main; sys.setswitchinterval(0.0005); sys.exit(main())"
"""
Runs the server. Its threads hand over to one another ten times as often as Python's do by default: one that reads some
thousands of documents holds a lock that all others want, and gives way at many of them.
"""


class NoServerError(RuntimeError):
    """There is no server to start; the message says what to install."""


@define
class MongoServer:
    """
    A server of one's own.

    Attributes:
        folder: Its data and log.
        port: Its TCP port on the loopback address, the same after each start.
    """

    folder: Path
    port: int
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Its URL, without a database."""
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self, *flags: str) -> None:
        """Start it, and wait until it accepts connections."""
        place = ("--host=127.0.0.1", f"--port={self.port}", f"--storage-path={self.folder / 'data'}")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *place, "--log-level=ERROR", *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the MongoDB server did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it in good order, cutting all connections."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.crash()
            self._process = None

    def crash(self) -> None:
        """Stop it as a crash does: what was not made durable is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def running_server(*flags: str) -> Iterator[MongoServer]:
    """
    Run an empty server of one's own, and remove it at the end. It may be stopped and started meanwhile.

    Raises:
        NoServerError: There is none on this machine.
    """
    if find_spec("secantus") is None:  # it has wheels for some versions of Python only
        raise NoServerError(f"no MongoDB: install secantusdb, or set {URL_VARIABLE}")
    folder = Path(tempfile.mkdtemp(prefix="pannier-mongo-", dir=MEMORY if MEMORY.is_dir() else None))
    server = MongoServer(folder, _free_port())
    try:
        server.start(*flags)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server_url(*flags: str) -> Iterator[str]:
    """Give the URL in PANNIER_TEST_MONGODB_URL, or that of a server started for this purpose."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield given.rstrip("/")
        return
    with running_server(*flags) as server:
        yield server.url


def main(arguments: Sequence[str]) -> int:
    """Run the command that follows "--" in *arguments* with a server; return its exit code."""
    flags = [STANDALONE] if arguments[:1] == [STANDALONE] else []
    rest = arguments[len(flags) :]
    command = rest[1:] if rest[:1] == ["--"] else rest
    if not command:
        print(__doc__, file=sys.stderr)  # noqa: T201  # a command line answers on its terminal
        return 2
    with server_url(*flags) as url:
        filled = [argument.replace("{url}", url) for argument in command]
        return subprocess.run(filled, env={**os.environ, URL_VARIABLE: url}, check=False).returncode


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
