"""Options, commands and command lines: what is wrong is refused in words, and never by an error of somebody else's."""

import asyncio
import math
import os
from collections.abc import Mapping
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pannier import NO_RETRY, Command, JobQueues, QueueOptions, RetryPolicy, WorkerOptions
from pannier.cli.app import run
from pannier.errors import ConfigurationError, PannierError, UsageError

EXAMPLES = int(os.environ.get("PANNIER_FUZZ_EXAMPLES", "300")) // 10
"""Of what takes a hundred times as long as the codec does."""
SLOW = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
WORDS = st.text(st.characters(exclude_categories=()), max_size=20)
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, 2**64, 10**400, -1, math.nan, math.inf, -0.0, object(), int, [], {}, (), b"x"]),
    WORDS,
    st.timedeltas(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.dictionaries(WORDS, WORDS | st.integers(), max_size=2),
    st.frozensets(WORDS, max_size=2),
)


@frozen
class Work(Command[Any]):
    """Gives back what it holds."""

    held: Any


def fields(*names: str) -> st.SearchStrategy[Mapping[str, Any]]:
    """Make arguments, of which some are given."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, JUNK))


@given(fields("execute_after", "expire_on", "priority", "idempotency_key", "metadata"))
def test_a_job_with_any_options_is_stored_as_asked_or_refused(options: Mapping[str, Any]) -> None:
    """By a UsageError, a TypeError or a ValueError; a good job can be queued beside it."""
    jobs = JobQueues("memory://")
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            try:
                tracking_id = await jobs.queue_job(Work(1), **options)
            except (UsageError, TypeError, ValueError):
                pass
            else:
                job = await jobs.storage.get_job(tracking_id)
                assert job is not None
                assert job.priority == options.get("priority", 0)
            await jobs.queue_job(Work(2))

    asyncio.run(main())


@given(fields("max_concurrency", "time_limit", "retry", "expire_after", "prefetch"))
def test_any_queue_options_are_taken_or_refused(options: Mapping[str, Any]) -> None:
    """When they are given, not when the first job runs."""
    with_words(lambda: QueueOptions(**options))


@given(fields("max_attempts", "first_delay", "factor", "max_delay", "give_up_on"))
def test_any_retry_policy_is_taken_or_refused(options: Mapping[str, Any]) -> None:
    """When it is made, not when a job has failed."""
    with_words(lambda: RetryPolicy(**options))


@given(
    fields(
        *("queues", "max_running", "lease_for", "renew_every", "probe_every", "storage_retry_delay"),
        *("shutdown_grace", "purge_every", "keep", "worker_id"),
    )
)
def test_any_worker_options_are_taken_or_refused(options: Mapping[str, Any]) -> None:
    """When they are made, not by the worker that runs under them."""
    with_words(lambda: WorkerOptions(**options))


def with_words(make: Any) -> None:
    """Make it, or be told why not."""
    try:
        make()
    except (ConfigurationError, UsageError, TypeError, ValueError) as error:
        assert str(error)  # noqa: PT017  # that it may be made is right, too


DEEP: Any = None
for _ in range(1_000):
    DEEP = [DEEP]

HUGE: list[Any] = [
    DEEP,
    "x" * (16 * 1024 * 1024),
    list(range(100_000)),
    {str(number): None for number in range(100_000)},
    "\0",
    "\ud800",
    "\ud800\udc00",
    math.nan,
    -math.inf,
    2**64,
    10**5_000,
    {"": {"$ne": None}, "a.b": -0.0},
]


@pytest.mark.parametrize("template", ["memory://", "sqlite:///{tmp}/jobs.db?synchronous=normal"])
def test_hostile_payloads_come_back_exactly_or_are_refused(tmp_path: Path, template: str) -> None:
    """As commands by a caller, as results by the storage (E16); the worker goes on."""
    jobs = JobQueues(template.format(tmp=tmp_path))

    @jobs.handler(retry=NO_RETRY)
    async def work(command: Work) -> Any:
        return HUGE[command.held] if isinstance(command.held, int) and command.held < len(HUGE) else command.held

    async def main() -> None:
        tracker = jobs.tracker(Work)
        async with jobs.worker():
            for number, held in enumerate(HUGE):
                for command in (Work(held), Work(number)):
                    try:
                        tracking_id = await jobs.queue_job(command)
                        result = await tracker.wait_for_result(tracking_id, timeout=timedelta(seconds=60))
                    except (PannierError, ValueError):
                        continue
                    assert repr_of(result) == repr_of(held)
            assert await tracker.wait_for_result(await jobs.queue_job(Work("alive"))) == "alive"

    asyncio.run(main())


def repr_of(value: object) -> object:
    """Return what tells values apart to the sign of zero, without recursion where they nest deeply."""
    depth = 0
    while isinstance(value, list) and len(value) == 1:
        value, depth = value[0], depth + 1
    return depth, hex(value) if type(value) is int else repr(value)  # repr gives up after 4,300 digits


def among(known: list[str]) -> st.SearchStrategy[list[str]]:
    """Return how to draw a few arguments, *known* ones and any others."""
    other = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
    return st.lists(st.sampled_from(known) | other, max_size=4)


COMMANDS = st.sampled_from(
    [
        *(["ping"], ["adapters"], ["queues"], ["purge"], ["jobs"], ["jobs", "list"], ["jobs", "show"]),
        *(["jobs", "cancel"], ["jobs", "requeue"], ["--version"], ["nonsense"], []),
    ]
)
ARGUMENTS = among(
    [
        *("memory://", "sqlite:///", "x:y", ":", "--help", "--queue", "--status", "--limit=-1", "--limit=x"),
        *("--limit=99999999999999999999", "--metadata", "--metadata==", "--metadata=a=b", "--status=failed", "--"),
        *("--older-than=1e9999d", "--older-than=-1s", "--keep=failed=x", "00000000-0000-0000-0000-000000000000"),
    ]
)


@SLOW
@given(COMMANDS, ARGUMENTS)
def test_any_command_line_ends_with_an_exit_code(command: list[str], arguments: list[str]) -> None:
    """What is wrong is said in words: no exception gets out of the command."""
    assert run([*command, *arguments]) in {0, 1, 2, 69, 78}


BUSY_COMMANDS = st.sampled_from(
    [
        *(["worker"], ["worker", "x:y"], ["worker", "tests.fuzz"], ["demo", "memory://"], ["demo", "x:y"]),
        *(["certify"], ["certify", "memory://"], ["new-adapter"], ["torture"], ["torture", "memory://"]),
    ]
)
"""Those that would take long if anything were right about them; what `certify` does then is left out."""
BUSY_ARGUMENTS = among(
    [
        *("--processes=0", "--processes=x", "--queues=", "--lease=0s", "--lease=x", "--probe=-1s", "--grace=1e99d"),
        *("--keep=failed=x", "--keep=x", "--health-file=/", "--log-level=loud", "--max-running=0", "--stop-at-eof"),
        *("--rule=R0", "--rule=R1", "--profile=x", "--expect=", "--seed=x", "--seed=-1", "--json=/", "--badge=/"),
        *("--adapter=x:y", "--adapter=:", "-n", "-n=-1", "--compare=/", "--compare=nothing.json", "--help", "--"),
        *("--jobs=0", "--kills=-1", "--workers=1", "--lease=nan", "--report=nothing", "..", "a/b", "class", "lmdb"),
    ]
)


@SLOW
@given(BUSY_COMMANDS, BUSY_ARGUMENTS)
def test_any_line_of_a_busy_command_ends_with_an_exit_code(command: list[str], arguments: list[str]) -> None:
    """So do those that start something: workers, the demonstration, the suite, the rig, a new adapter."""
    with TemporaryDirectory() as folder, chdir(folder), patch.object(pytest, "main", return_value=0):
        assert run([*command, *arguments]) in {0, 1, 2, 69, 78}


@given(st.datetimes(timezones=st.just(UTC)), st.timedeltas(min_value=timedelta(microseconds=1)))
def test_any_instant_is_kept_or_refused(at: datetime, later: timedelta) -> None:
    """To the microsecond, from the year 1 to 9999."""
    jobs = JobQueues("memory://")
    jobs.declare(Work)
    try:
        job = jobs.create_job(Work(1), execute_after=at, expire_on=at + later)
    except (OverflowError, UsageError):
        return
    assert (job.execute_after, job.expire_on) == (at, at + later)
