"""What is stored, and what is named by a caller, is data: it is never imported, called, or part of a statement."""

import asyncio
import logging
import os
import sqlite3
import stat
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from attrs import evolve, frozen

from pannier import Command, JobFailedError, JobQueues, JobStatus
from pannier.cli.app import run
from pannier.errors import PannierError, UnstorableError
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import Json, Payload

PASSWORD = "Zq9vX7kW"  # noqa: S105  # it is one for no door
IMPORTED = "tests.fuzz.never_imported"

HOSTILE = (
    *("'; DROP TABLE pannier_jobs; --", "' OR '1'='1", "1); DELETE FROM jobs; --", "x' UNION SELECT 1 --", '"', "\\"),
    *("$where", "$ne", "$gt", '{"$ne": null}', "{$gt: ''}", "a.b", "$", ".*", "%", "_", "*", "?", ":queue_id", "$1"),
    *("{record}", "{schema}", "%s", "%(x)s", "a\0b", "\ud800", "__import__('os')", "os:system", IMPORTED),
)


@frozen
class Work(Command[str]):
    """Gives its own text."""

    text: str


@pytest.fixture(params=["memory", "sqlite", "postgres", "mongo"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new storage of each kind."""
    match request.param:
        case "memory":
            return f"memory://{uuid4().hex}"
        case "sqlite":
            return f"sqlite:///{tmp_path}/jobs.db?synchronous=normal"
        case "postgres":
            return f"{request.getfixturevalue('postgres_url')}?schema=t{uuid4().hex}"
        case _:
            return f"{request.getfixturevalue('mongo_url')}/t{uuid4().hex}"


def test_hostile_names_keys_and_metadata_are_literal(url: str) -> None:
    """In storing, finding, counting and purging each text means itself or is refused, and nothing else is touched."""
    jobs = JobQueues(url)

    @jobs.handler()
    async def work(command: Work) -> str:
        return command.text

    async def main() -> None:
        async with jobs:
            bystander = await jobs.queue_job(Work("bystander"), idempotency_key="k", metadata={"tenant": "a"})
            inspector = jobs.session.inspector
            assert inspector is not None
            for text in HOSTILE:
                stored: UUID | None = None
                again: UUID | None = None
                try:
                    stored = await jobs.queue_job(Work(text), idempotency_key=text, metadata={text: text})
                    again = await jobs.queue_job(Work(text), idempotency_key=text, metadata={text: text})
                except UnstorableError:
                    assert stored is None
                assert again == stored
                found = await inspector.find_jobs(JobFilter(metadata={text: text}))
                assert [job.tracking_id for job in found.jobs] == ([] if stored is None else [stored])
                assert await inspector.count_jobs(JobFilter(queue_ids=frozenset({text}))) == {}
                try:
                    stale = StaleJobs(
                        now=datetime.now(UTC) + timedelta(days=900),
                        keep={JobStatus.FAILED: timedelta(0)},
                        queue_ids=frozenset({text}),
                        limit=1000,
                    )
                    assert (await jobs.storage.purge_stale_jobs(stale)).expired == 0
                except UnstorableError:
                    pass
            job = await jobs.storage.get_job(bystander)
            assert job is not None
            assert (job.status, job.idempotency_key, dict(job.metadata)) == (JobStatus.PENDING, "k", {"tenant": "a"})

    asyncio.run(main())


def test_what_is_stored_names_no_code(url: str) -> None:
    """A queue, an encoding or a class that a job names, as unpicklers and taggers would believe it, is only text."""
    jobs = JobQueues(url)

    @jobs.handler()
    async def work(command: Work) -> str:
        return command.text

    async def main() -> None:
        async with jobs.worker():
            made = [jobs.create_job(Work("fine")) for _ in range(3)]
            trees: Sequence[Json] = [
                {"text": "x", "_type": f"{IMPORTED}.Evil", "py/object": f"{IMPORTED}.Evil", "__class__": IMPORTED},
                {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]},
                f"!!python/object/apply:os.system ['true'] {IMPORTED}",
            ]
            hostile = [evolve(job, command=Payload(tree)) for job, tree in zip(made, trees, strict=True)]
            await jobs.storage.store_jobs(hostile)
            jobs.trigger_job_execution(Work)
            tracker = jobs.tracker(Work)
            with pytest.raises(JobFailedError):
                await tracker.wait_for_result(hostile[1].tracking_id, timeout=timedelta(seconds=30))
            with pytest.raises(JobFailedError):
                await tracker.wait_for_result(hostile[2].tracking_id, timeout=timedelta(seconds=30))

    asyncio.run(main())
    assert IMPORTED not in sys.modules


def modes_in(folder: Path) -> dict[str, str]:
    """Return the permissions of each file of *folder*."""
    return {each.name: oct(stat.S_IMODE(each.stat().st_mode)) for each in folder.iterdir()}


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask that hides nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    """SQLite's file, its log and its index, whatever the umask: what jobs carry is as private as mail."""
    path = tmp_path / "jobs.db"

    async def main() -> dict[str, str]:
        async with JobQueues(f"sqlite:///{path}") as jobs:
            jobs.declare(Work)
            await jobs.queue_job(Work("fine"))
            return modes_in(tmp_path)

    assert asyncio.run(main()) == dict.fromkeys(["jobs.db", "jobs.db-wal", "jobs.db-shm"], "0o600")


def test_a_database_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    """Who shares one with a group has decided that, and its log and index follow it."""
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
    path.chmod(0o660)

    async def main() -> dict[str, str]:
        async with JobQueues(f"sqlite:///{path}"):
            return modes_in(tmp_path)

    assert asyncio.run(main()) == dict.fromkeys(["jobs.db", "jobs.db-wal", "jobs.db-shm"], "0o660")


URLS = (
    f"postgresql://user:{PASSWORD}@127.0.0.1:1/db?timeout=0.3",
    f"postgresql://user@127.0.0.1:1/db?password={PASSWORD}&timeout=0.3",
    f"mongodb://user:{PASSWORD}@127.0.0.1:1/db?timeout=0.3",
    f"mongodb://user:{PASSWORD}?/#@127.0.0.1:1/db?timeout=0.3",
    f"sqlite:///no/such/folder/jobs.db?token={PASSWORD}",
    f"nosuch://user:{PASSWORD}@host/db",
)


@pytest.mark.parametrize("hostile_url", URLS)
def test_a_storage_that_is_not_there_gives_no_secret_away(
    hostile_url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither errors with all their causes, nor logs, nor representations, nor what the commands print."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def main() -> None:
        jobs = JobQueues(hostile_url)
        said.extend([repr(jobs), str(jobs), repr(vars(jobs)), repr(jobs.plugins)])

        @jobs.handler()
        async def work(command: Work) -> str:
            return command.text

        async with jobs.worker():
            pytest.fail("there is no such storage")

    try:
        asyncio.run(main())
    except PannierError as error:
        said += traceback.format_exception(error, chain=True)
        said += [repr(error), repr(error.args), repr(error.__cause__), repr(error.__context__)]
    for command in (["ping"], ["adapters"], ["queues"], ["jobs", "list"], ["purge", "--yes"], ["worker"]):
        assert run([*command, hostile_url]) != 0
    out, err = capsys.readouterr()

    assert PASSWORD not in "".join((*said, caplog.text, out, err))
