"""`jobs.sync`: the same API from code without an event loop."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import frozen

from pannier import Command, JobContext, JobQueues, JobTracker, UsageError
from pannier.sync import SyncJobContext, SyncJobQueues, SyncJobTracker


@frozen
class Work(Command[str]):
    """Gives its own text."""

    text: str = ""


@pytest.fixture
def jobs() -> JobQueues:
    """Job queues with one handler."""
    jobs = JobQueues("memory://")

    @jobs.handler()
    async def work(command: Work) -> str:
        return command.text

    return jobs


def test_many_threads_queue_and_execute_at_once(jobs: JobQueues) -> None:
    """The first call opens the storage; `with` closes it."""
    with jobs.sync, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: jobs.sync.queue_job(Work(str(number))), range(64)))
        results = list(pool.map(lambda number: jobs.sync.execute(Work(str(number))), range(64)))
    assert len(set(ids)) == 64
    assert results == [str(number) for number in range(64)]
    assert not jobs.is_open


def test_it_opens_again_after_it_was_closed(jobs: JobQueues) -> None:
    """Each call that finds it closed opens it."""
    with jobs.sync:
        jobs.sync.queue_job(Work())
    with jobs.sync:
        assert jobs.sync.queue_jobs([Work(), Work()])


def test_errors_are_those_of_the_async_api(jobs: JobQueues) -> None:
    """Type and text."""
    with jobs.sync, pytest.raises(UsageError, match="priority"):
        jobs.sync.queue_job(Work(), priority=1_000)


def test_a_timeout_is_raised_in_the_calling_thread(jobs: JobQueues) -> None:
    """Nobody works on the job."""
    with jobs.sync:
        tracking_id = jobs.sync.queue_job(Work())
        with pytest.raises(TimeoutError):
            jobs.sync.tracker(Work).wait_for_result(tracking_id, timeout=timedelta(milliseconds=20))


def test_on_an_event_loop_it_is_refused(jobs: JobQueues) -> None:
    """It would block the loop; the message says what to write."""

    async def main() -> None:
        with pytest.raises(UsageError, match="await jobs"):
            jobs.sync.queue_job(Work())

    asyncio.run(main())


def test_a_handler_in_a_thread_uses_its_workers_loop() -> None:
    """Reports under its own lease, queues further jobs and waits for them, without opening anything anew."""
    jobs = JobQueues("memory://")
    answers: list[bool] = []

    @jobs.handler(max_concurrency=4)
    def work(command: Work, job: JobContext[str]) -> str:
        if command.text == "inner":
            return "from inside"
        answers.append(job.sync.report(current_step=1, total_steps=2, status="half"))
        inner = jobs.sync.queue_job(Work("inner"))
        return jobs.sync.tracker(Work).wait_for_result(inner, timeout=timedelta(seconds=10))

    async def main() -> None:
        async with jobs.worker():
            outer = await jobs.queue_job(Work("outer"))
            assert await jobs.tracker(Work).wait_for_result(outer) == "from inside"

    asyncio.run(main())
    assert answers == [True]
    assert not [thread for thread in threading.enumerate() if thread.name == "pannier sync"]


def test_a_failure_is_raised_with_the_handlers_own_text(jobs: JobQueues) -> None:
    """As in the async API."""
    failing = JobQueues("memory://")

    @failing.handler()
    def work(command: Work) -> str:
        raise LookupError("nothing there")

    with failing.sync, pytest.raises(LookupError, match="nothing there"):
        failing.sync.execute(Work())


FORKING = """
import os, sys
from tests.unit.test_sync import Work
from pannier import JobQueues

jobs = JobQueues("memory://")
jobs.declare(Work)
first = jobs.sync.queue_job(Work("parent"))
child = os.fork()
if not child:
    jobs.sync.queue_job(Work("child"))
    os._exit(0)
_, status = os.waitpid(child, 0)
assert jobs.sync.tracker(Work).get_job(first) is not None
jobs.sync.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_opens_its_own() -> None:
    """R93: the parent's loop is not used, which is not there, and the parent goes on unharmed."""
    root = Path(__file__).parents[2]
    forked = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], timeout=60, cwd=root, check=False)
    assert forked.returncode == 0


LEAVING = """
import weakref
from tests.unit.test_sync import Work
from pannier import JobQueues
from pannier.plugins import Plugins
from pannier.urls import StorageUrl

storage = Plugins.installed().create_storage(StorageUrl("memory://"))
close = storage.close

class Resource:
    pass  # its library finalizes it at the program's end, as a watched file

resource = Resource()

async def telling():
    await close()
    print("closed")

storage.close = telling
jobs = JobQueues(storage)
jobs.declare(Work)
jobs.sync.queue_job(Work())
weakref.finalize(resource, print, "finalized")
"""


def test_a_program_that_ends_closes_what_a_call_has_opened() -> None:
    """Nobody has to remember it: at the end of the program nothing is torn down under a storage that is in use."""
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", LEAVING], timeout=60, cwd=root, check=True, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("closed\nfinalized\n", "")


@pytest.mark.parametrize(
    ("blocking", "original"),
    [(SyncJobTracker, JobTracker), (SyncJobQueues, JobQueues), (SyncJobContext, JobContext)],
)
def test_a_blocking_method_takes_what_its_original_takes(blocking: type, original: type) -> None:
    """Names, kinds and defaults of all arguments are the same, so whoever knows one API knows the other."""
    methods = {name: method for name, method in vars(blocking).items() if inspect.isfunction(method)}
    common = {name for name in methods if name in vars(original) and not name.startswith("_")}

    assert common
    assert {name: arguments(methods[name]) for name in common} == {
        name: arguments(vars(original)[name]) for name in common
    }


def arguments(method: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Return what *method* takes besides itself."""
    return [(each.name, each.kind, each.default) for each in list(inspect.signature(method).parameters.values())[1:]]
