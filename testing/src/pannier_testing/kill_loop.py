"""
Workers that are killed at random (R88), and what their journal says afterwards.

The journal is a file to which every worker appends what it is about to do and what it was answered. It is what the
storage is judged by, so a storage that forgets cannot hide it. Time is virtual: each kill moves it past all leases.
"""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

from attrs import field, frozen

from pannier.records import JobRecord, Json, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, new_id, new_job, retry
from pannier_testing.checks import Checks
from pannier_testing.processes import Nursery
from pannier_testing.wire import to_line

QUEUE_ID: Final = "killed"
WORKERS: Final = 2
IN_FLIGHT: Final = 5
"""How many jobs a worker claims at once."""


class Ground:
    """What the workers share beside the storage: the journal and the clock, two files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, **about: Json) -> None:
        """Append one line; a single write, so that lines of several processes never mix."""
        os.write(self._journal, to_line({"what": what, **about}))

    def set_clock(self, kills: int, *, word: str) -> None:
        """Let all workers read *kills* leases as the time, and go on or end as *word* says."""
        new = self.folder / "clock.new"
        new.write_text(f"{kills} {word}")
        new.replace(self.folder / "clock")

    def read_clock(self) -> tuple[datetime, str]:
        """Return the time and the word."""
        kills, word = (self.folder / "clock").read_text().split()
        return T0 + int(kills) * (LEASE + SECOND), word

    def size(self) -> int:
        """How many bytes the journal has."""
        return os.fstat(self._journal).st_size

    def lines(self) -> Iterator[dict[str, Any]]:
        """Read the journal; a line that was cut by a kill is its last."""
        for line in (self.folder / "journal").read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


async def work(storage: JobStorageProvider, *, folder: str, seed: int) -> None:
    """Store, claim and settle jobs until the ground says "end" and nothing is left; note everything."""
    ground, rng = Ground(Path(folder)), Random(seed)
    while True:
        now, word = ground.read_clock()
        if word == "go":
            jobs = [new_job(new_id(rng), QUEUE_ID) for _ in range(rng.randrange(1, 4))]
            ground.note("store", ids=[str(job.tracking_id) for job in jobs])
            await storage.store_jobs(jobs)
            ground.note("stored", ids=[str(job.tracking_id) for job in jobs])
        claimed = await storage.claim_jobs(claim_of(QUEUE_ID, limit=IN_FLIGHT, now=now, worker=str(os.getpid())))
        for job in claimed.jobs:
            about: dict[str, Json] = {"id": str(job.tracking_id), "fence": job.fence, "lapses": job.lapses}
            ground.note("start", **about, now=now.isoformat(), until=job.dequeue_after.isoformat())
        await _settle(storage, ground, rng, claimed.jobs)
        if word == "end" and not claimed.jobs:
            return


async def _settle(storage: JobStorageProvider, ground: Ground, rng: Random, jobs: Sequence[JobRecord]) -> None:
    now, word = ground.read_clock()
    settlements = [Settlement(job.lease, _outcome(rng, now, word)) for job in jobs]
    for settlement in settlements:
        ground.note("settle", **_about(settlement))
    refused = await storage.settle_jobs(settlements, now=now)
    for settlement in settlements:
        ground.note("refused" if settlement.lease in refused else "settled", **_about(settlement))


def _outcome(rng: Random, now: datetime, word: str) -> Outcome:
    again: list[Outcome] = [retry(now, at=now), Release()]
    return rng.choice(again) if word == "go" and rng.random() < 0.3 else Succeeded(Payload("done"))


def _about(settlement: Settlement) -> dict[str, Json]:
    lease = settlement.lease
    outcome = type(settlement.outcome).__name__
    return {"id": str(lease.tracking_id), "fence": lease.fence, "outcome": outcome}


async def kill_at_random(nursery: Nursery, url: str, ground: Ground, rng: Random, kills: int) -> None:
    """Let workers work, kill one after the other *kills* times, each after some progress, and let another finish."""

    async def worker() -> int:
        return await nursery.fork(url, work, folder=str(ground.folder), seed=rng.getrandbits(64))

    ground.set_clock(0, word="go")
    alive = [await worker() for _ in range(WORKERS)]
    for number in range(1, kills + 1):
        enough = ground.size() + rng.randrange(1, 6000)
        while ground.size() < enough:  # noqa: ASYNC110  # other processes make the progress
            await asyncio.sleep(0.001)
        await asyncio.sleep(rng.random() * rng.choice((0, 0.003, 0.01, 0.03)))
        await nursery.kill(alive.pop(rng.randrange(WORKERS)))
        ground.set_clock(number, word="go")
        alive.append(await worker())
    ground.set_clock(kills, word="end")
    for pid in alive:
        await nursery.join(pid)
    ground.set_clock(kills + 1, word="end")
    await nursery.join(await worker())


@frozen
class Execution:
    """One claim of a job that a worker was given."""

    fence: int
    lapses: int
    now: datetime
    until: datetime


@frozen
class Journal:
    """What the journal holds: who was stored, every execution, and every settlement that was tried or accepted."""

    intended: set[UUID] = field(factory=set[UUID])
    stored: set[UUID] = field(factory=set[UUID])
    executions: dict[UUID, list[Execution]] = field(factory=lambda: defaultdict[UUID, list[Execution]](list))
    tried: dict[tuple[UUID, int], str] = field(factory=dict[tuple[UUID, int], str])
    accepted: dict[tuple[UUID, int], str] = field(factory=dict[tuple[UUID, int], str])

    @property
    def redeliveries(self) -> int:
        """How many executions followed a lapsed lease."""
        return sum(execution.lapses > 0 for many in self.executions.values() for execution in many)


def read_journal(ground: Ground) -> Journal:
    """Read what the workers noted."""
    journal = Journal()
    for line in ground.lines():
        match line:
            case {"what": "store", "ids": ids}:
                journal.intended.update(map(UUID, ids))
            case {"what": "stored", "ids": ids}:
                journal.stored.update(map(UUID, ids))
            case {"what": "start", "id": name, "fence": fence, "lapses": lapses, "now": now, "until": until}:
                ended = Execution(fence, lapses, datetime.fromisoformat(now), datetime.fromisoformat(until))
                journal.executions[UUID(name)].append(ended)
            case {"what": "settle", "id": name, "fence": fence, "outcome": outcome}:
                journal.tried[UUID(name), fence] = outcome
            case {"what": "settled", "id": name, "fence": fence, "outcome": outcome}:
                journal.accepted[UUID(name), fence] = outcome
            case _:
                pass
    for executions in journal.executions.values():
        executions.sort(key=lambda execution: execution.fence)
    return journal


def check_executions(check: Checks, journal: Journal) -> None:
    """See that no job was run twice at the same time, and none was completed twice."""
    for tracking_id, executions in journal.executions.items():
        fences = [execution.fence for execution in executions]
        check.counts(fences, set(fences), "no two claims of a job have the same fence")
        for first, second in pairwise(executions):
            was_given_back = journal.tried.get((tracking_id, first.fence)) in {"Retry", "Release"}
            check.true(
                was_given_back or second.now >= first.until,
                "no two executions of a job overlap while the first one's lease is live (I4)",
                expected=f"job {tracking_id} not claimed again before {first.until}",
                seen=f"fence {first.fence} until {first.until}, fence {second.fence} at {second.now}",
            )
        done = [fence for fence in fences if journal.accepted.get((tracking_id, fence)) == "Succeeded"]
        check.true(
            len(done) <= 1 and done in ([], fences[-1:]),
            "a job is completed once, and not run again (I3)",
            expected="at most one fence, the last",
            seen=f"fences {done} of {fences} succeeded",
        )


def check_fences(check: Checks, journal: Journal, records: Sequence[JobRecord], kills: int) -> None:
    """See that fences lie between the claims that were answered and those that can have been made."""
    for record in records:
        answered = len(journal.executions[record.tracking_id])
        check.true(
            answered <= record.fence <= answered + kills,
            "a fence counts the claims: those answered, and at most one more for each kill (I5)",
            expected=f"{answered} to {answered + kills}",
            seen=record.fence,
        )
