"""The file itself: who may read it, who has it open, what destroying takes away, what becomes of a bad disk."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.errors import StorageClosedError, StorageRefusedError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_sqlite._files import OpenFiles

if TYPE_CHECKING:
    from pannier_sqlite.provider import SqliteStorage

NewId = Callable[[], UUID]
MakeStorage = Callable[[str], "SqliteStorage"]

LOSES_ITS_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
connection.execute("BEGIN IMMEDIATE")
"""

FORKS = """
import asyncio, os, sys, uuid
from pannier.errors import StorageClosedError
from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_testing.builders import new_job

async def open_new():
    await create().open()

def refuse(work):
    try:
        asyncio.run(work)
    except StorageClosedError:
        print("refused", flush=True)

def in_child():
    asyncio._set_running_loop(None)
    for work in (storage.get_job(uuid.uuid4()), storage.open(), open_new()):
        refuse(work)
    os._exit(0)

async def main():
    await storage.open()
    await storage.store_jobs([new_job(uuid.uuid4())])
    child = os.fork()
    if child == 0:
        in_child()
    os.waitpid(child, 0)
    await storage.store_jobs([new_job(uuid.uuid4())])
    print("parent stored", flush=True)
    await storage.close()

plugins = Plugins.installed()
create = lambda: plugins.create_storage(StorageUrl(sys.argv[1]))
storage = create()
asyncio.run(main())
"""

FILLS_THE_DISK = """
import asyncio, resource, sys, uuid
from pannier.errors import StorageRefusedError
from pannier.plugins import Plugins
from pannier.inspection import JobFilter
from pannier.urls import StorageUrl
from pannier_testing.builders import new_job

async def main():
    storage = Plugins.installed().create_storage(StorageUrl(sys.argv[1]))
    await storage.open()
    await storage.store_jobs([new_job(uuid.uuid4())])
    size = 400_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    answers = await asyncio.gather(
        storage.store_jobs([new_job(uuid.uuid4(), command="x" * 1_000_000)]),
        storage.store_jobs([new_job(uuid.uuid4())]),
        return_exceptions=True,
    )
    assert isinstance(answers[0], StorageRefusedError), answers
    assert isinstance(answers[1], list), answers
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await storage.store_jobs([new_job(uuid.uuid4(), command="x" * 1_000_000)])
    print(sum((await storage.count_jobs(JobFilter())).values()))
    await storage.close()

asyncio.run(main())
"""

CLAIMS_A_BATCH = """
import asyncio, sys, uuid
from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_testing.builders import claim_of, new_job

async def main():
    storage = Plugins.installed().create_storage(StorageUrl(sys.argv[1]))
    await storage.open()
    await storage.store_jobs([new_job(uuid.uuid4(), command="x" * 2_000) for _ in range(100)])
    print(len((await storage.claim_jobs(claim_of(limit=100))).jobs))
    await storage.close()

asyncio.run(main())
"""


def destroy(runner: asyncio.Runner, url: StorageUrl) -> None:
    """Let the installed adapter destroy what *url* names."""

    async def play() -> None:
        await Plugins.installed().adapter_for(url).destroy(url)

    runner.run(play())


@pytest.mark.usefixtures("storage")
def test_a_new_file_is_its_owner_s_alone(path: Path) -> None:
    """Payloads are nobody else's business, in the log neither."""
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}


def test_a_file_that_was_made_before_keeps_its_rights(runner: asyncio.Runner, make: MakeStorage, path: Path) -> None:
    """Whoever wants to share the file among users makes it beforehand."""
    path.touch()
    path.chmod(0o660)
    storage = make("")
    runner.run(storage.open())
    runner.run(storage.close())

    assert path.stat().st_mode & 0o777 == 0o660


def test_opening_a_second_instance_leaves_the_locks_of_the_first(
    runner: asyncio.Runner, storage: "SqliteStorage", make: MakeStorage, other: sqlite3.Connection, path: Path
) -> None:
    """No descriptor of the file is closed on the way, which would drop every lock of this process."""
    assert storage is not None
    other.execute("BEGIN IMMEDIATE")
    second = make("")
    runner.run(second.open())
    runner.run(second.close())

    rival = subprocess.run([sys.executable, "-c", LOSES_ITS_LOCK, path], capture_output=True, text=True, check=False)
    other.execute("ROLLBACK")
    assert "database is locked" in rival.stderr


def test_a_process_forked_from_one_that_has_the_file_open_is_refused(path: Path) -> None:
    """It would believe in locks that it does not hold, and lose what it commits."""
    parent, child = OpenFiles(), OpenFiles()
    parent.enter(path)
    child._open.update({(held, pid + 1): count for (held, pid), count in parent._open.items()})  # as a fork leaves it

    with pytest.raises(StorageClosedError, match="when this one was forked"):
        child.enter(path)


def test_a_file_that_was_closed_before_a_fork_may_be_opened(path: Path) -> None:
    """Only an open connection is carried across a fork."""
    files = OpenFiles()
    files.leave(files.enter(path))

    assert not files._open


def test_a_forked_child_can_neither_use_nor_reopen_the_storage(path: Path) -> None:
    """Both raise, a new instance there as well, and the parent goes on unharmed (R93)."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, f"sqlite:///{path}"], capture_output=True, text=True, check=False
    )

    assert (ended.stdout.split("\n"), ended.stderr) == (["refused", "refused", "refused", "parent stored", ""], "")


def test_destroying_removes_the_file_and_its_log(runner: asyncio.Runner, make: MakeStorage, path: Path) -> None:
    """What open() made goes (R95)."""
    storage, url = make(""), StorageUrl(f"sqlite:///{path}")
    runner.run(storage.open())
    runner.run(storage.close())
    destroy(runner, url)
    destroy(runner, url)

    assert list(path.parent.iterdir()) == []


def test_destroying_leaves_an_application_s_own_tables(runner: asyncio.Runner, make: MakeStorage, path: Path) -> None:
    """Nothing else goes (R95): an application may store jobs in the transactions of its own file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")
    storage, url = make(""), StorageUrl(f"sqlite:///{path}")
    runner.run(storage.open())
    runner.run(storage.close())
    destroy(runner, url)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("orders",)]


def test_a_file_that_is_no_database_is_refused(runner: asyncio.Runner, make: MakeStorage, path: Path) -> None:
    """The error names the file and says what is wrong."""
    path.write_bytes(b"something else\n" * 500)

    with pytest.raises(StorageRefusedError, match=r"jobs\.db is no SQLite database"):
        runner.run(make("").open())


def test_a_missing_folder_is_refused_and_opens_once_it_exists(
    runner: asyncio.Runner, make: MakeStorage, path: Path
) -> None:
    """The same instance works after the repair (R90)."""
    path.parent.rmdir()
    storage = make("")
    with pytest.raises(StorageRefusedError, match="check that its folder exists"):
        runner.run(storage.open())
    path.parent.mkdir()
    runner.run(storage.open())

    assert runner.run(storage.count_jobs(JobFilter())) == {}
    runner.run(storage.close())


def test_a_claim_makes_no_temporary_file(path: Path, tmp_path: Path) -> None:
    """Making and removing one takes time, and a worker need not have any folder to make it in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    os.utime(folder, (0, 0))
    ended = subprocess.run(
        [sys.executable, "-c", CLAIMS_A_BATCH, f"sqlite:///{path}"],
        env={**os.environ, "SQLITE_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.stdout, ended.stderr) == ("100\n", "")
    assert folder.stat().st_mtime == 0  # not even one that was removed again


def test_a_batch_that_fills_the_disk_is_refused_alone(path: Path) -> None:
    """A small call of the same transaction is stored; with room again, everything is (R90, R122)."""
    ended = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, f"sqlite:///{path}"], capture_output=True, text=True, check=False
    )

    assert (ended.stdout, ended.stderr) == ("3\n", "")
