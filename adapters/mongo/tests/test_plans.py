"""
Plans: no claim and no purge reads or sorts a backlog (R119), by what the server explains of the very finds they make.

What names jobs by their ids is left out: SecantusDB 0.7 looks them up by `_id`, and explains a scan.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import pytest
from attrs import evolve, field, frozen

from pannier.purging import StaleJobs
from pannier.records import COMPLETE, JobStatus
from pannier_mongo import _claiming, _ending
from pannier_mongo._documents import CODEC, LEASED
from pannier_testing.builders import LEASE, LOOK_AHEAD, QUEUE, SECOND, T0, claim_of, new_job

if TYPE_CHECKING:
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase

    from pannier_mongo._documents import JobDocument
    from pannier_mongo.provider import MongoStorage

    Database: TypeAlias = AsyncDatabase[Mapping[str, object]]

NewId: TypeAlias = Callable[[], UUID]
Fields: TypeAlias = Mapping[str, object]

FEW, MANY = 200, 3_000
LATER = T0 + LOOK_AHEAD / 2

PENDING: Fields = {"status": "pending", "line": 100, "priority": 100, "dequeue_after": LATER}
ENDED: Fields = {"priority": 100, "dequeue_after": T0, "finished_at": LATER, "stale_since": LATER}

BACKLOGS: Mapping[str, Callable[[int], Fields]] = {
    "due": lambda n: {**PENDING, "line": 0, "priority": 0, "dequeue_after": T0 + n * SECOND / 1000},
    "due at one instant": lambda n: {**PENDING, "line": 0, "priority": 0, "dequeue_after": T0},
    "due later, first in line": lambda n: {**PENDING},
    "due later, over many priorities": lambda n: {**PENDING, "line": n % 20, "priority": n % 20},
    "due later, to expire": lambda n: {**PENDING, "expire_on": LATER + LEASE, "stale_since": LATER + LEASE},
    "leased": lambda n: {**PENDING, "status": "running", "line": LEASED, "worker_id": "w", "fence": 1},
    "succeeded": lambda n: {**ENDED, "status": "succeeded", "fence": 1},
    "expired and marked": lambda n: {**ENDED, "status": "expired"},
}


@frozen
class Recorder:
    """The jobs as a claim or a purge reads them, and what was asked."""

    jobs: "AsyncCollection[JobDocument]"
    asked: list[Any] = field(factory=list[Any])

    def find(self, *arguments: Any) -> Any:
        cursor = self.jobs.find(*arguments)
        self.asked.append(cursor)
        return cursor


async def add(database: "Database", ids: NewId, backlog: str, numbers: range) -> None:
    """Put jobs of a backlog beside what is there."""
    always = {"queue_id": QUEUE, "execute_after": T0, "created_at": T0, "attempt": 0, "lapses": 0, "fence": 0}
    command = {"encoding": "json", "tree": 1}
    jobs = [{"_id": ids(), **always, "command": command, **BACKLOGS[backlog](number)} for number in numbers]
    await database["pannier_jobs"].insert_many(jobs)


async def explained(database: "Database", asked: list[Any]) -> list[Mapping[str, Any]]:
    """Return how the server says that it answers some finds."""
    commands = [
        {"find": "pannier_jobs", "filter": cursor._spec, "sort": dict(cursor._ordering or ()), "limit": cursor._limit}
        for cursor in asked
    ]
    return [
        await database.command({"explain": command, "verbosity": "executionStats"}, codec_options=CODEC)
        for command in commands
    ]


def stages(plan: Mapping[str, Any]) -> set[str]:
    """Return the names of all stages of a plan."""
    below = plan.get("inputStage")
    return {plan["stage"], *(stages(below) if below else ())}


def indexes(plan: Mapping[str, Any]) -> set[str]:
    """Return the names of the indexes that a plan reads."""
    below = plan.get("inputStage")
    return ({plan["indexName"]} if "indexName" in plan else set()) | (indexes(below) if below else set())


def documents_read(plans: list[Mapping[str, Any]]) -> int:
    """Return how many documents were looked at in all."""
    return sum(plan["executionStats"]["totalDocsExamined"] for plan in plans)


@pytest.mark.parametrize("backlog", BACKLOGS)
def test_a_claim_reads_as_much_of_a_long_backlog_as_of_a_short_one(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId, backlog: str
) -> None:
    """Not more for all that waits, is scheduled, leased or finished; and all of it through the index of the lines."""

    async def claim() -> list[Mapping[str, Any]]:
        """Return the plans of a claim by an instance that has made some before."""
        opened = storage._checked
        for _ in range(3):
            recorder = Recorder(opened.store.latest)
            store = evolve(opened.store, latest=recorder)  # type: ignore[arg-type]  # what a claim needs of it
            await _claiming.claim_jobs(store, opened.reaches, claim_of(limit=3, now=T0 + SECOND / 2))
        return await explained(other, recorder.asked)

    async def play() -> tuple[list[Mapping[str, Any]], ...]:
        await storage.store_jobs([new_job(ids()) for _ in range(40)])
        lines = (100, *range(20))
        await storage.store_jobs([new_job(ids(), priority=line, execute_after=LATER) for line in lines])
        await add(other, ids, backlog, range(FEW))
        short = await claim()
        await add(other, ids, backlog, range(FEW, MANY))
        return short, await claim()

    short, long = runner.run(play())
    for plan in (plan["queryPlanner"]["winningPlan"] for plan in long):
        assert indexes(plan) == {"pannier_line"}
        assert "COLLSCAN" not in stages(plan)
    assert documents_read(long) <= documents_read(short) + 60


def test_a_purge_reads_what_it_ends_and_deletes(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId
) -> None:
    """Behind every kind of backlog its look-ups go through the index of what grows stale."""

    async def play() -> list[Mapping[str, Any]]:
        await storage.store_jobs([new_job(ids())])
        for backlog in BACKLOGS:
            await add(other, ids, backlog, range(200))
        opened = storage._checked
        recorder = Recorder(opened.store.latest)
        store = evolve(opened.store, latest=recorder)  # type: ignore[arg-type]  # what a purge needs of it
        stale = StaleJobs(now=T0 + SECOND, keep=dict.fromkeys(COMPLETE, LEASE))
        assert (await _ending.purge(store, stale)).deleted == 0
        return await explained(other, recorder.asked)

    plans = runner.run(play())
    assert {frozenset(indexes(plan["queryPlanner"]["winningPlan"])) for plan in plans} == {frozenset({"pannier_stale"})}
    assert len(plans) == len(COMPLETE) + len({JobStatus.PENDING, JobStatus.RUNNING})
    assert documents_read(plans) == 0
