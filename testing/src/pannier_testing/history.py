"""One short history of a storage, told with instants relative to its start: it must be the same whenever it begins."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import attrs

from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Json, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobInspector, JobResultProvider, JobStorageProvider
from pannier_testing.builders import MINUTE, SECOND, claim_of, failed, new_job, retry
from pannier_testing.checks import Checks


class Teller:
    """
    Tells what a storage answers.

    Attributes:
        storage: The storage.
        start: When the history begins.
        queue: The queue that it plays in.
        story: What was told so far.
    """

    def __init__(self, storage: JobStorageProvider, start: datetime, number: int) -> None:
        self.storage = storage
        self.start = start
        self.queue = f"history-{number}"
        self.story: list[Json] = []
        self._number = number

    def at(self, seconds: float) -> datetime:
        """Return the instant so many seconds after the start."""
        return self.start + timedelta(seconds=seconds)

    def job(self, number: int, **fields: Any) -> JobRecord:
        """Return a job of this history."""
        fields.setdefault("execute_after", self.start)
        return new_job(UUID(int=self._number * 1000 + number, version=4), self.queue, created_at=self.start, **fields)

    def tell(self, what: str, value: object) -> None:
        """Add what was seen."""
        self.story.append([what, self._plain(value)])

    async def claim(self, seconds: float, limit: int) -> tuple[JobRecord, ...]:
        """Claim at so many seconds, and tell what came of it."""
        claimed = await self.storage.claim_jobs(claim_of(self.queue, now=self.at(seconds), limit=limit))
        jobs = tuple(sorted(claimed.jobs, key=lambda job: job.tracking_id))
        self.tell(f"claim of {limit} at {seconds:g} s", jobs)
        # A lower bound: whether it lies ahead is what decides, its exact value may differ.
        is_due = claimed.next_due is not None and claimed.next_due <= self.at(seconds)
        self.tell("more is due", is_due)
        return jobs

    async def look(self, *jobs: JobRecord) -> None:
        """Tell how *jobs* stand."""
        for job in jobs:
            self.tell("record", await self.storage.get_job(job.tracking_id))

    def _plain(self, value: object) -> Json:
        if isinstance(value, datetime):
            offset = value.utcoffset()
            return [str(value.astimezone(UTC) - self.start), str(offset)]
        if isinstance(value, UUID):
            return value.int % 1000
        if isinstance(value, Enum):
            return str(value)
        if isinstance(value, Mapping):
            return {str(self._plain(key)): self._plain(each) for key, each in sorted(value.items())}
        if isinstance(value, tuple | list):
            return [self._plain(each) for each in value]
        if attrs.has(type(value)):
            fields = attrs.fields(type(value))  # type: ignore[arg-type]  # asked only of attrs values
            return {f.name: self._plain(getattr(value, f.name)) for f in fields if f.name != "queue_id"}
        return value if isinstance(value, bool | int | float | str | None) else str(value)


async def tell(storage: JobStorageProvider, *, start: str, number: int) -> Json:
    """
    Play the history and return what was seen. Runs in child processes, too.

    Args:
        storage: An opened storage.
        start: When it begins, in ISO format.
        number: Which history of this storage it is: its queue and ids are others in each.
    """
    teller = Teller(storage, datetime.fromisoformat(start), number)
    await _tell_of_leases(teller)
    await _tell_of_ends(teller)
    if isinstance(storage, JobInspector):
        await _tell_of_requeues(teller, storage)
    return teller.story


async def _tell_of_leases(teller: Teller) -> None:
    storage, at = teller.storage, teller.at
    jobs = [
        teller.job(1),
        teller.job(2, priority=5, execute_after=at(-3600)),
        teller.job(3, execute_after=at(60)),
        teller.job(4, expire_on=at(10), priority=-5),
        teller.job(5, execute_after=at(3600), expire_on=at(7200), key="k"),
    ]
    teller.tell("stored", await storage.store_jobs(jobs))
    teller.tell("stored again", await storage.store_jobs([teller.job(6, key="k")]))
    await teller.claim(-3601, 10)
    await teller.claim(-1, 0)
    taken = await teller.claim(0, 1)
    await teller.claim(9.999, 1)
    await teller.claim(10, 10)
    lost = await storage.renew_leases([job.lease for job in taken], now=at(29), lease_for=30 * SECOND)
    teller.tell("lost", [lease.tracking_id for lease in lost])
    await teller.claim(58, 10)
    await teller.claim(59, 10)
    await teller.claim(60, 10)
    await teller.look(*jobs)


async def _tell_of_ends(teller: Teller) -> None:
    storage, at = teller.storage, teller.at
    outcomes: tuple[Outcome, ...] = (Succeeded(Payload("done")), failed(at(61)), retry(at(120), at=at(61)), Release())
    jobs = [teller.job(10 + n, execute_after=at(61)) for n in range(5)]
    await storage.store_jobs(jobs)
    taken = await teller.claim(61, 20)
    settled = [job for job in taken if job.tracking_id in {each.tracking_id for each in jobs}]
    settlements = [Settlement(job.lease, outcome) for job, outcome in zip(settled, outcomes, strict=False)]
    refused = await storage.settle_jobs(settlements, now=at(62))
    teller.tell("refused", [lease.tracking_id for lease in refused])
    if isinstance(storage, JobResultProvider):
        for job in settled:
            teller.tell("result", await storage.get_job_result(job.tracking_id))
    teller.tell("cancelled", await storage.cancel_job(jobs[4].tracking_id, now=at(63)))
    keep = {JobStatus.SUCCEEDED: MINUTE, JobStatus.CANCELLED: MINUTE, JobStatus.EXPIRED: 60 * MINUTE}
    for seconds in (64, 119.999, 120, 121.999, 122, 122.999, 123, 3700, 3730, 7200, 10_799, 10_800):
        stale = StaleJobs(now=at(seconds), keep=keep, queue_ids=frozenset({teller.queue}))
        teller.tell(f"purged at {seconds} s", await storage.purge_stale_jobs(stale))
        await teller.claim(seconds, 1)
    await teller.look(*jobs)


async def _tell_of_requeues(teller: Teller, storage: JobInspector) -> None:
    wanted = JobFilter(queue_ids=frozenset({teller.queue}))
    job = teller.job(11)
    now = teller.at(11_000)
    teller.tell("requeued", await storage.requeue_job(job.tracking_id, now=now, expire_on=now + MINUTE))
    await teller.claim(10_999, 10)
    await teller.claim(11_000, 10)
    await teller.claim(11_060, 10)
    for seconds in (11_100, 11_200):  # ended by then, the second time while it waits
        await teller.storage.cancel_job(job.tracking_id, now=teller.at(seconds))
        again = await storage.requeue_job(job.tracking_id, now=teller.at(seconds), expire_on=None)
        teller.tell("requeued without an expiry", again)
        await teller.claim(seconds - 1, 10)
        await teller.look(job)
    page = await storage.find_jobs(wanted, limit=100)
    teller.tell("found", sorted(page.jobs, key=lambda each: each.tracking_id))


def check_same(check: Checks, seen: object, expected: object, which: str) -> None:
    """Check that two stories are the same; where they part, the first difference is told."""
    assert isinstance(seen, list)
    assert isinstance(expected, list)
    for told, other in zip(seen, expected, strict=False):
        check.equal(told, other, f"{which} is the same in every step")
    check.equal(len(seen), len(expected), f"{which} has as many steps")
