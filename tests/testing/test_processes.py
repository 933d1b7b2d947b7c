"""Child processes that hold a storage: driven by lines of JSON, started together, frozen, and killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from pannier.inspection import JobFilter
from pannier.records import JobStatus
from pannier_testing.builders import T0, claim_of, full_job, new_id
from pannier_testing.processes import Child, ChildDiedError, ChildRaisedError, Nursery, Stepper, barrier
from tests.testing import programs

REFERENCE = ("pannier_testing.reference.plugin:plugin",)
ID = new_id(Random(1))


@asynccontextmanager
async def opened_children(tmp: Path, count: int = 1) -> AsyncIterator[list[Child]]:
    """Lend *count* children with one storage, a file in *tmp*."""
    children = [await Child.start(REFERENCE, tmp) for _ in range(count)]
    try:
        for child in children:
            await child.open(f"ledger://{tmp}/jobs")
        yield children
    finally:
        for child in children:
            await child.stop()


async def test_a_child_answers_with_equal_values(tmp_path: Path) -> None:
    """What a child's storage returns arrives equal to what another child stored, types included."""
    async with opened_children(tmp_path, 2) as (first, second):
        job = full_job(ID)

        assert await first.call("store_jobs", jobs=[job]) == [ID]
        assert await second.call("get_job", tracking_id=ID) == job


async def test_an_error_in_a_child_is_raised_here(tmp_path: Path) -> None:
    """A call that raises in a child raises here, with the error's name and message, and the child goes on."""
    async with opened_children(tmp_path) as (child,):
        with pytest.raises(ChildRaisedError, match="limit must be at least 1") as caught:
            await child.call("find_jobs", wanted=JobFilter(), cursor=None, limit=0)

        assert caught.value.kind == "ValueError"
        assert await child.call("get_job", tracking_id=ID) is None


async def test_children_start_together_at_a_barrier(tmp_path: Path) -> None:
    """No child starts before the barrier, though one was asked long before the other."""
    async with opened_children(tmp_path, 2) as children:
        together = barrier()

        began = await asyncio.gather(*(child.run(programs.started_at, start_at=together) for child in children))

        assert min(began) >= together


async def test_a_child_runs_a_function_of_ours_with_its_storage(tmp_path: Path) -> None:
    """A function at module level is found there by its name, and works on the child's storage."""
    async with opened_children(tmp_path) as (child,):
        await child.call("store_jobs", jobs=[full_job(ID)])

        assert await child.run(programs.claim_one, worker="w") == []
        assert await child.run(programs.count_running) == 0


async def test_what_a_killed_child_claimed_stays_claimed(tmp_path: Path) -> None:
    """SIGKILL leaves what was answered, and whoever asks the dead child learns that it is dead."""
    async with opened_children(tmp_path, 2) as (killed, other):
        job = full_job(ID)
        await killed.call("store_jobs", jobs=[job])
        await killed.call("claim_jobs", claim=claim_of(now=job.execute_after))

        await killed.kill()

        assert (await other.call("get_job", tracking_id=ID)).status is JobStatus.RUNNING
        with pytest.raises(ChildDiedError, match="-9"):
            await killed.call("get_job", tracking_id=ID)


async def test_a_frozen_child_answers_when_it_is_thawed(tmp_path: Path) -> None:
    """SIGSTOP holds a child where it is; SIGCONT lets it go on and answer."""
    async with opened_children(tmp_path) as (child,):
        child.freeze()
        question = asyncio.ensure_future(child.call("get_job", tracking_id=ID))
        done, _ = await asyncio.wait({question}, timeout=0.2)
        assert not done

        child.thaw()

        assert await question is None


async def test_a_call_is_killed_at_each_of_its_lines(tmp_path: Path) -> None:
    """The fork that makes the call dies at the line that is asked for: first nothing is stored, in the end all is."""
    stepper = await Stepper.start(REFERENCE, tmp_path)
    job = full_job(ID)
    url = f"ledger://{tmp_path}/jobs"
    try:
        whole = await stepper.call(f"{url}-whole", "store_jobs", jobs=[job])
        assert whole.lines is not None

        found = []
        for line in range(whole.lines):
            stepped = await stepper.call(f"{url}-{line}", "store_jobs", jobs=[job], die_at=line)
            assert stepped.lines is None
            found.append((tmp_path / f"jobs-{line}").exists())

        assert found == sorted(found)
        assert (found[0], found[-1]) == (False, True)
    finally:
        await stepper.stop()


async def test_a_call_that_ends_before_its_line_is_not_killed(tmp_path: Path) -> None:
    """Past its last line there is nothing to kill: the call ends, and says how many lines it took."""
    stepper = await Stepper.start(REFERENCE, tmp_path)
    url = f"ledger://{tmp_path}/jobs"
    try:
        stepped = await stepper.call(url, "claim_jobs", claim=claim_of(now=T0), die_at=100_000)
        again = await stepper.call(url, "claim_jobs", claim=claim_of(now=T0))

        assert stepped == again
    finally:
        await stepper.stop()


@asynccontextmanager
async def opened_nursery(tmp: Path) -> AsyncIterator[Nursery]:
    """Lend a process that forks."""
    nursery = await Nursery.start(REFERENCE, tmp)
    try:
        yield nursery
    finally:
        await nursery.stop()


async def test_a_fork_may_be_given_the_url_alone(tmp_path: Path) -> None:
    """Nothing is opened for it: it opens what it needs itself."""
    async with opened_nursery(tmp_path) as nursery:
        pid = await nursery.spawn(f"ledger://{tmp_path}/jobs", programs.leave, code=0)

        assert await nursery.join(pid) == f"ledger://{tmp_path}/jobs"


async def test_a_fork_that_ends_itself_is_told(tmp_path: Path) -> None:
    """With its exit code, and without harm to the process that forks."""
    async with opened_nursery(tmp_path) as nursery:
        pid = await nursery.spawn(f"ledger://{tmp_path}/jobs", programs.leave, code=75)
        while not await nursery.has_ended(pid):  # noqa: ASYNC110  # another process ends
            await asyncio.sleep(0.01)

        with pytest.raises(ChildRaisedError, match="with 75"):
            await nursery.join(pid)
        assert await nursery.join(await nursery.spawn("ledger:///jobs", programs.leave, code=0)) == "ledger:///jobs"
