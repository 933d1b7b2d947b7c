"""Storing many jobs at once: by a statement that sends once what they have in common, or by one that does not."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from attrs import evolve

from pannier.inspection import JobFilter
from pannier.records import JobRecord, JobStatus, Payload
from pannier_postgres._rows import from_job, similar_of
from pannier_testing.builders import QUEUE, SECOND, T0, new_job

if TYPE_CHECKING:
    from pannier_postgres.provider import PostgresStorage

NewId = Callable[[], UUID]
Change = Callable[[JobRecord, int], JobRecord]

SIMILAR: dict[str, Change] = {
    "nothing": lambda job, _: job,
    "when they start": lambda job, number: evolve(
        job, execute_after=T0 + number * SECOND, dequeue_after=T0 + number * SECOND
    ),
    "when they expire": lambda job, number: evolve(job, expire_on=T0 + number * SECOND if number else None),
    "when they were made": lambda job, number: evolve(job, created_at=T0 - number * SECOND),
}
OTHERS: dict[str, Change] = {
    "queue": lambda job, number: evolve(job, queue_id=f"queue {number % 2}"),
    "priority": lambda job, number: evolve(job, priority=number % 2),
    "metadata": lambda job, number: evolve(job, metadata={"number": str(number)}),
    "encoding": lambda job, number: evolve(job, command=Payload(number, f"json+{number % 2}")),
    "bytes": lambda job, number: evolve(job, command=Payload(b"\0")) if number == 1 else job,
}


def _jobs(ids: NewId, change: Change, *, count: int = 30) -> list[JobRecord]:
    return [
        change(new_job(ids(), command={"number": number}, metadata={"tenant": "a"}), number) for number in range(count)
    ]


@pytest.mark.parametrize("differ", [*SIMILAR, *OTHERS])
def test_jobs_stored_together_come_back_as_they_were_stored(
    runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId, differ: str
) -> None:
    """Whatever they differ in."""
    jobs = _jobs(ids, (SIMILAR | OTHERS)[differ])

    async def play() -> None:
        assert await storage.store_jobs(jobs) == [job.tracking_id for job in jobs]
        assert [await storage.get_job(job.tracking_id) for job in jobs] == jobs

    runner.run(play())


@pytest.mark.parametrize("differ", SIMILAR)
def test_jobs_that_differ_in_nothing_but_their_instants_are_similar(ids: NewId, differ: str) -> None:
    """So that the tests above meet both statements."""
    assert similar_of([from_job(job) for job in _jobs(ids, SIMILAR[differ])]) is not None


@pytest.mark.parametrize("differ", OTHERS)
def test_jobs_that_differ_in_more_are_not(ids: NewId, differ: str) -> None:
    """As above."""
    assert similar_of([from_job(job) for job in _jobs(ids, OTHERS[differ])]) is None


def test_similar_jobs_that_are_stored_already_stay_as_they_are(
    runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId
) -> None:
    """R5: the first of an id stands, of another call and of the same one."""
    jobs = _jobs(ids, SIMILAR["nothing"])
    known, again = jobs[:10], [evolve(job, command=Payload("another")) for job in jobs[:10]]
    twice = [*jobs, evolve(jobs[20], command=Payload("another"))]

    async def play() -> None:
        await storage.store_jobs(known)
        assert await storage.store_jobs(again) == [job.tracking_id for job in again]
        await storage.store_jobs(twice)
        assert [await storage.get_job(job.tracking_id) for job in jobs] == jobs
        assert await storage.count_jobs(JobFilter()) == {(QUEUE, JobStatus.PENDING): len(jobs)}

    runner.run(play())
