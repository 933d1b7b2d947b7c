"""Settling many jobs at once by one statement, which is sent once what they have in common."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.records import JobStatus, Payload
from pannier.settlements import Release, Settlement, Succeeded
from pannier_postgres._rows import shared_columns_of
from pannier_testing.builders import T0, claim_of, new_job

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


@pytest.mark.parametrize("given", RESULTS)
def test_jobs_that_succeed_together_keep_their_results(
    runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId, given: str
) -> None:
    """Whatever they have in common, also where some were claimed before and so have other fences."""
    result_of = RESULTS[given]

    async def play() -> None:
        await storage.store_jobs([new_job(ids()) for _ in range(COUNT)])
        again = (await storage.claim_jobs(claim_of(limit=COUNT // 3))).jobs
        await storage.settle_jobs([Settlement(job.lease, Release()) for job in again], now=T0)
        jobs = (await storage.claim_jobs(claim_of(limit=COUNT))).jobs
        assert {job.fence for job in jobs} == {1, 2}
        settlements = [
            Settlement(job.lease, Succeeded(result_of(number)))
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
        first = (await storage.claim_jobs(claim_of(limit=COUNT))).jobs
        await storage.settle_jobs([Settlement(job.lease, Release()) for job in first[:stale]], now=T0)
        await storage.claim_jobs(claim_of(limit=COUNT))
        settlements = [Settlement(job.lease, Succeeded(Payload(1))) for job in first]
        assert await storage.settle_jobs(settlements, now=T0) == {job.lease for job in first[:stale]}

    runner.run(play())


def test_leases_of_one_job_alone_are_told_apart(runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId) -> None:
    """A batch of a stale lease of a job and the one that stands, which have the job and the result in common."""

    async def play() -> None:
        await storage.store_jobs([new_job(ids())])
        (stale,) = (await storage.claim_jobs(claim_of(limit=1))).jobs
        await storage.settle_jobs([Settlement(stale.lease, Release())], now=T0)
        (job,) = (await storage.claim_jobs(claim_of(limit=1))).jobs
        settlements = [Settlement(of.lease, Succeeded(Payload(1))) for of in (stale, job)]
        assert await storage.settle_jobs(settlements, now=T0) == {stale.lease}

    runner.run(play())


def test_only_columns_of_one_value_are_sent_as_one() -> None:
    """One that is NULL in all rows is sent empty; one that is NULL in some is sent whole, as is the first of all."""
    rows = [(7, 1, "json", "a", None, None), (7, 1, "json", "b", None, "c")]
    assert list(map(list, shared_columns_of(rows))) == [[7, 7], [1], ["json"], ["a", "b"], [], [None, "c"]]
