"""Settling many jobs at once by one statement, which is sent once what they have in common."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.claims import Claim, Demand
from pannier.records import JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Release, Settlement, Succeeded
from pannier_postgres._rows import shared_columns_of
from pannier_testing.builders import QUEUE, SECOND, T0, new_job

if TYPE_CHECKING:
    from pannier_postgres.provider import PostgresStorage

NewId = Callable[[], UUID]

COUNT = 30
RESULTS: dict[str, Callable[[int], Payload | None]] = {
    "all the same": lambda _: Payload({"width": 256}),
    "different ones": Payload,
    "no results": lambda _: None,
    "a result and none": lambda number: None if number else Payload("first"),
    "none and a result": lambda number: Payload("later") if number else None,
    "bytes": lambda _: Payload(b"\0"),
    "bytes and JSON": lambda number: Payload(b"\0" if number % 2 else "text"),
    "encodings": lambda number: Payload("text", f"json+{number % 2}"),
}


async def _claim(storage: "PostgresStorage", limit: int) -> Sequence[JobRecord]:
    claim = Claim(
        demands=(Demand((QUEUE,), limit),),
        worker_id="worker",
        now=T0,
        lease_for=30 * SECOND,
        look_ahead=timedelta(0),
    )
    return (await storage.claim_jobs(claim)).jobs


@pytest.mark.parametrize("given", RESULTS)
def test_jobs_that_succeed_together_keep_their_results(
    runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId, given: str
) -> None:
    """Whatever they have in common, also where some were claimed before and so have other fences."""
    result_of = RESULTS[given]

    async def play() -> None:
        await storage.store_jobs([new_job(ids()) for _ in range(COUNT)])
        again = await _claim(storage, COUNT // 3)
        await storage.settle_jobs([Settlement(_lease(job), Release()) for job in again], now=T0)
        jobs = await _claim(storage, COUNT)
        assert {job.fence for job in jobs} == {1, 2}
        settlements = [
            Settlement(_lease(job), Succeeded(result_of(number)))
            for number, job in enumerate(sorted(jobs, key=lambda job: job.tracking_id))
        ]
        assert await storage.settle_jobs(settlements, now=T0) == frozenset()
        for number, settlement in enumerate(settlements):
            stored = await storage.get_job(settlement.lease.tracking_id)
            assert stored is not None
            assert (stored.status, stored.result) == (JobStatus.SUCCEEDED, result_of(number))

    runner.run(play())


@pytest.mark.parametrize("stale", [1, COUNT])
def test_a_fence_that_all_have_in_common_is_held_against_each(
    runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId, stale: int
) -> None:
    """A batch of one fence settles no job that has another by now."""

    async def play() -> None:
        await storage.store_jobs([new_job(ids()) for _ in range(COUNT)])
        first = await _claim(storage, COUNT)
        await storage.settle_jobs([Settlement(_lease(job), Release()) for job in first[:stale]], now=T0)
        await _claim(storage, COUNT)
        settlements = [Settlement(_lease(job), Succeeded(Payload(1))) for job in first]
        assert await storage.settle_jobs(settlements, now=T0) == {_lease(job) for job in first[:stale]}

    runner.run(play())


def test_leases_of_one_job_alone_are_told_apart(runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId) -> None:
    """A batch of a stale lease of a job and the one that stands, which have the job and the result in common."""

    async def play() -> None:
        await storage.store_jobs([new_job(ids())])
        (stale,) = await _claim(storage, 1)
        await storage.settle_jobs([Settlement(_lease(stale), Release())], now=T0)
        (job,) = await _claim(storage, 1)
        settlements = [Settlement(_lease(of), Succeeded(Payload(1))) for of in (stale, job)]
        assert await storage.settle_jobs(settlements, now=T0) == {_lease(stale)}

    runner.run(play())


def test_only_columns_of_one_value_are_sent_as_one() -> None:
    """One that is NULL in all rows is sent empty; one that is NULL in some is sent whole, as is the first of all."""
    rows = [(7, 1, "json", "a", None, None), (7, 1, "json", "b", None, "c")]
    assert list(map(list, shared_columns_of(rows))) == [[7, 7], [1], ["json"], ["a", "b"], [], [None, "c"]]


def _lease(job: JobRecord) -> Lease:
    return Lease(job.tracking_id, job.fence)
