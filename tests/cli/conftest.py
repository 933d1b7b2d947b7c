"""What the tests of the command line share: a program with jobs, and the command, in this process or in another."""

import asyncio
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import IO
from uuid import UUID

import pytest
from attrs import frozen

from pannier import Command, JobQueues, JobRecord, JobStatus
from pannier.cli.app import run

HERE = Path(__file__).parent

PATIENCE_SECONDS = 90
"""An interpreter that loads the command needs a second, on a busy machine ten; some tests wait for three of them."""


@frozen
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


@frozen
class Running:
    """A command that runs in a process of its own."""

    process: subprocess.Popen[str]

    @property
    def errors(self) -> IO[str]:
        """Its standard error."""
        assert self.process.stderr is not None
        return self.process.stderr

    @property
    def output(self) -> IO[str]:
        """Its standard output."""
        assert self.process.stdout is not None
        return self.process.stdout

    def wait_for(self, text: str) -> str:
        """Return the next line of its standard error that holds *text*; fail if it ends without one."""
        return _line_with(text, self.errors)

    def wait_for_output(self, text: str) -> str:
        """Return the next line of its standard output that holds *text*; fail if it ends without one."""
        return _line_with(text, self.output)

    def end(self) -> int:
        """Wait until it has ended, and return its exit code."""
        self.errors.read()
        return self.process.wait()


def _line_with(text: str, stream: IO[str]) -> str:
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if text in line:
            return line
    pytest.fail(f"the command ended without saying {text!r}: {''.join(lines)}")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a new storage that several processes can share."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def empty(url: str) -> str:
    """The URL of a storage that is there, and holds no job."""

    async def make() -> None:
        async with JobQueues(url):
            pass

    asyncio.run(make())
    return url


@pytest.fixture
def shop(url: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program `shop`, on that storage, here and in processes that are started from here."""
    monkeypatch.setenv("SHOP_STORAGE", url)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return importlib.import_module("shop")


@pytest.fixture
def queue(shop: ModuleType) -> Callable[..., list[UUID]]:
    """Queue commands, with the options of `queue_jobs`."""

    async def queue_all(commands: Sequence[Command[object]], **options: object) -> list[UUID]:
        async with shop.jobs as jobs:
            ids: list[UUID] = await jobs.queue_jobs(commands, **options)
            return ids

    return lambda *commands, **options: asyncio.run(queue_all(commands, **options))


@pytest.fixture
def stored(shop: ModuleType) -> Callable[[UUID], JobRecord | None]:
    """Read a job as it is stored."""

    async def get(tracking_id: UUID) -> JobRecord | None:
        async with shop.jobs as jobs:
            job: JobRecord | None = await jobs.storage.get_job(tracking_id)
            return job

    return lambda tracking_id: asyncio.run(get(tracking_id))


@pytest.fixture
def wait_until(shop: ModuleType) -> Callable[[UUID, JobStatus], None]:
    """Wait until a job has a status and, if it is running, has reported that it runs."""

    async def wait(tracking_id: UUID, status: JobStatus) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), shop.jobs as jobs:
            async for progress in jobs.tracker(shop.Sit).follow(tracking_id):
                if progress.status is status and (progress.current_step or status is not JobStatus.RUNNING):
                    return

    return lambda tracking_id, status: asyncio.run(wait(tracking_id, status))


@pytest.fixture
def worked(shop: ModuleType) -> Callable[..., list[UUID]]:
    """Queue commands, and execute them until all have ended."""

    async def work(commands: Sequence[Command[object]]) -> list[UUID]:
        async with asyncio.timeout(PATIENCE_SECONDS), shop.jobs.worker():
            ids: list[UUID] = await shop.jobs.queue_jobs(commands)
            for command, tracking_id in zip(commands, ids, strict=True):
                async for _ in shop.jobs.tracker(type(command)).follow(tracking_id):
                    pass
            return ids

    return lambda *commands: asyncio.run(work(commands))


@pytest.fixture
def pannier(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process."""

    def run_here(*arguments: object) -> Ended:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return run_here


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start the command in another process; it is killed at the end of the test if it still runs."""
    with ExitStack() as stack:

        def start_there(*arguments: object) -> Running:
            process = subprocess.Popen(
                [sys.executable, "-m", "pannier.cli", *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Running(process)

        yield start_there


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Leave the level of the log as it was: a command that runs in this process sets it for the process."""
    logger = logging.getLogger("pannier")
    before = logger.level
    yield
    logger.setLevel(before)
