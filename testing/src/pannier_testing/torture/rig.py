"""Puts a run together: a place for the storage, the processes, the faults one after the other, and the judgement."""

import asyncio
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from pannier.errors import ConfigurationError
from pannier.inspection import JobFilter
from pannier.records import JobRecord, JobStatus
from pannier.storage import JobInspector, JobStorageProvider, add_ons
from pannier_testing.processes import Nursery
from pannier_testing.proxy import GOES_PAST, FaultProxy
from pannier_testing.subject import Place, Subject, names_server
from pannier_testing.torture.crew import Crew, StalledError
from pannier_testing.torture.faults import Mischief
from pannier_testing.torture.ground import Tail
from pannier_testing.torture.immutable import can_be_immutable
from pannier_testing.torture.oracle import CONDEMNED, Remains, Verdict, judge
from pannier_testing.torture.plan import FaultKind, Plan, Server
from pannier_testing.torture.testimony import hear

PAGE: Final = 1000
GROUND: Final = "ground"

REQUEUES: Final = 3
"""How often a condemned job is requeued: nobody kills workers by then, so one that is condemned again has a reason."""


async def torture(
    subject: Subject, plan: Plan, *, server: Server | None = None, journal: Path | None = None
) -> Verdict:
    """
    Do what *plan* says to the storage of *subject*, in a place of its own, and judge what came of it.

    Args:
        subject: The storage. Its URL has "{tmp}" or "{namespace}" in it.
        plan: What to do.
        server: The storage's server, where it is to be killed.
        journal: Where to keep the journal, for somebody who wants to know more.

    Raises:
        ConfigurationError: The storage can't be treated so.
    """
    place = Place.make()
    url = subject.url_in(place)
    try:
        async with _opened(subject, url) as storage:
            await _check(storage, url, plan, server, place.tmp)
            return await _run(subject, plan, server, place, storage)
    finally:
        await subject.destroy(url, place)
        if journal is not None and (place.tmp / GROUND).exists():  # else it was refused, and there is none
            shutil.copyfile(place.tmp / GROUND / "journal", journal)
        place.remove()


async def _run(
    subject: Subject, plan: Plan, server: Server | None, place: Place, storage: JobStorageProvider
) -> Verdict:
    rng = random.Random(plan.seed)
    url, ground = subject.url_in(place), place.tmp / GROUND
    ground.mkdir()
    async with AsyncExitStack() as stack:
        proxies = [_proxy(stack, url, place.tmp / f"seat{seat}", plan) for seat in range(plan.workers + 1)]
        urls = [url if proxy is None else proxy.url for proxy in proxies]
        real = [proxy for proxy in proxies if proxy is not None]
        for proxy in real[:1]:  # the others differ in nothing
            await _meet(subject, proxy)
        nursery = await Nursery.start(subject.adapters, place.tmp)
        stack.push_async_callback(nursery.stop)
        crew = Crew(plan, urls, ground, nursery=nursery, rng=rng, adapters=subject.adapters)
        crew.journal.note("clocks", offset=await _clock_offset(storage))
        mischief = Mischief(crew, rng, store=place.tmp, proxies=real, server=server)
        await crew.start()
        if plan.has(FaultKind.CLOCK):
            mischief.skew_clocks()
        with suppress(StalledError):  # it is in the journal, and the oracle tells
            await _mistreat(crew, mischief, rng, plan)
            await crew.until_queued(plan.jobs)
            await _drain(crew, storage)
        await crew.dismiss()
        remains = await _what_remains(storage, crew.achieved.acknowledged)
    told = hear(Tail(ground).lines())
    return judge(told, remains, plan)


async def _mistreat(crew: Crew, mischief: Mischief, rng: random.Random, plan: Plan) -> None:
    """Let jobs be queued portion by portion, and do a fault in each, so that there is always something in progress."""
    schedule = [kind for kind, count in sorted(plan.faults.items()) for _ in range(count)]
    rng.shuffle(schedule)
    portion = plan.jobs / (len(schedule) + 1)
    for number, kind in enumerate(schedule):
        crew.board.allow(int(portion * (number + 1)))
        # A kill in the first third of a portion finds jobs in progress; the cancelled ones never succeed.
        await crew.until_succeeded(int(crew.achieved.succeeded + portion * rng.random() * 0.6))
        await mischief.do(kind)
        await mischief.look_on(plan.pause_seconds)
    crew.board.allow(plan.jobs)


async def _drain(crew: Crew, storage: JobStorageProvider) -> None:
    """
    Wait until no job is unfinished; requeue those that were condemned.

    Raises:
        StalledError: Nothing has moved for too long.
    """
    moved_at, seen = time.monotonic(), -1
    requeued = Counter[UUID]()
    while True:
        await crew.look()
        unfinished, failed = await _state(storage, crew.achieved.acknowledged)
        condemned = [job.tracking_id for job in failed if requeued[job.tracking_id] < REQUEUES]
        if condemned and isinstance(storage, JobInspector):
            for tracking_id in condemned:
                crew.journal.note("requeue", id=str(tracking_id))
                await storage.requeue_job(tracking_id, now=datetime.now(UTC), expire_on=None)
            requeued.update(condemned)
        elif unfinished == 0:
            return
        if unfinished != seen:
            moved_at, seen = time.monotonic(), unfinished
        if time.monotonic() - moved_at > crew.plan.patience_seconds:
            crew.stall(f"{unfinished} jobs have ended")
        await asyncio.sleep(0.2)


async def _state(storage: JobStorageProvider, known: Collection[UUID]) -> tuple[int, list[JobRecord]]:
    """Return how many jobs are unfinished, and those that were condemned."""
    if isinstance(storage, JobInspector) and "inspect" in add_ons(storage):
        counts = await _count(storage)
        failed = JobFilter(statuses=frozenset({JobStatus.FAILED}))
        page = await storage.find_jobs(failed, limit=PAGE) if counts[JobStatus.FAILED] else None
        condemned = [job for job in page.jobs if job.errors and job.errors[-1].kind == CONDEMNED] if page else []
        return counts[JobStatus.PENDING] + counts[JobStatus.RUNNING], condemned
    jobs = [await storage.get_job(tracking_id) for tracking_id in known]
    return sum(job is not None and not job.is_complete for job in jobs), []


async def _what_remains(storage: JobStorageProvider, known: Collection[UUID]) -> Remains:
    has_results = "results" in add_ons(storage)
    if not isinstance(storage, JobInspector) or "inspect" not in add_ons(storage):
        found = [job for tracking_id in known if (job := await storage.get_job(tracking_id)) is not None]
        return Remains(jobs={job.tracking_id: job for job in found}, has_results=has_results, counts=None)
    jobs: dict[UUID, JobRecord] = {}
    cursor = None
    while True:
        page = await storage.find_jobs(JobFilter(), cursor=cursor, limit=PAGE)
        jobs.update((job.tracking_id, job) for job in page.jobs)
        cursor = page.cursor
        if cursor is None:
            return Remains(jobs=jobs, has_results=has_results, counts=await _count(storage))


async def _count(storage: JobInspector) -> Counter[JobStatus]:
    counts = Counter[JobStatus]()
    for (_, status), number in (await storage.count_jobs(JobFilter())).items():
        counts[status] += number
    return counts


@asynccontextmanager
async def _opened(subject: Subject, url: str) -> AsyncIterator[JobStorageProvider]:
    storage = subject.create(url)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def _check(storage: JobStorageProvider, url: str, plan: Plan, server: Server | None, folder: Path) -> None:
    """
    Refuse what can't be done to this storage.

    Raises:
        ConfigurationError: Says what.
    """
    capabilities = storage.capabilities
    if not (capabilities.durable and capabilities.shared):
        raise ConfigurationError("only a storage that is durable and shared between processes can be tortured")
    no_flags = not can_be_immutable(folder) and "files can't be made immutable here (CAP_LINUX_IMMUTABLE, ext4 or XFS)"
    no_limits = not hasattr(resource, "prlimit") and "this system can't limit another process"
    impossible = {
        FaultKind.NETWORK: not names_server(url) and "its URL names no server",
        FaultKind.SERVER: server is None and "there is no server, or nothing to kill it by",
        FaultKind.DISK: no_limits or (names_server(url) and "its server's disk is not ours to fill"),
        FaultKind.MEMORY: no_limits,
        FaultKind.READ_ONLY: (names_server(url) and "its server's disk is not ours to lock") or no_flags,
        FaultKind.CLOCK: await storage.read_clock() is None and "it has no clock of its own (E15)",
    }
    for kind, reason in impossible.items():
        if plan.has(kind) and reason:
            raise ConfigurationError(f"no {kind} faults for this storage: {reason}")


async def _clock_offset(storage: JobStorageProvider) -> float:
    """Return by how many seconds the storage's clock is ahead of this machine's."""
    before = time.time()
    clock = await storage.read_clock()
    return 0.0 if clock is None else clock.timestamp() - (before + time.time()) / 2


async def _meet(subject: Subject, proxy: FaultProxy) -> None:
    """
    See that what is asked of the storage comes by *proxy*, or its faults would be counted and touch nobody.

    Raises:
        ConfigurationError: It goes past it.
    """
    async with _opened(subject, proxy.url) as storage:
        proxy.heal()  # from here on it counts anew: a driver may have asked it for the way past
        await storage.get_job(uuid4())
        if not proxy.sent:
            raise ConfigurationError(f"no {FaultKind.NETWORK} faults for this storage: {GOES_PAST}")


def _proxy(stack: AsyncExitStack, url: str, folder: Path, plan: Plan) -> FaultProxy | None:
    if not plan.has(FaultKind.NETWORK):
        return None
    folder.mkdir()
    return stack.enter_context(FaultProxy(url, folder))
