"""Section V, continued: however many listen, and from wherever something is changed, each change is told."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Final

from pannier.errors import UnstorableError
from pannier.notices import Notice, NoticeKind
from pannier.records import JobRecord, JobStatus
from pannier.settlements import Outcome, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import T0, claim_of, failed
from pannier_testing.checks import show
from pannier_testing.hearing import PATIENCE, Hearing, tells
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, notifier_of

NAMES: Final = (
    "mail",
    "Mail",
    "mail.%_*:/'\"; --\\",
    "\u00e9\u00df \N{GRINNING FACE}",
    "n" * 64,
    "\u00e9" * 100,
    "n" * 254 + "a",
    "n" * 254 + "b",
)
"""Queues whose names an engine may not take for the name of a channel."""

FALLEN_ASLEEP: Final = 0.3
"""Seconds after which an event loop that has nothing to do is taken to sleep."""


def tells_of(notice: Notice, kind: NoticeKind, job: JobRecord) -> bool:
    """Whether *notice* says that something of *kind* happened to *job*, or to a job of its queue, or to anything."""
    return tells(notice, kind, job.queue_id) and notice.tracking_id in (None, job.tracking_id)


async def must_hear(trial: Trial, hearing: Hearing, kind: NoticeKind, jobs: list[JobRecord], when: str) -> None:
    """Check that a notice of *kind* comes for each of *jobs*, in any order, or MISSED."""
    left = list(jobs)
    heard: list[Notice] = []
    while left:
        took, more = await hearing.until(lambda notice: any(tells_of(notice, kind, job) for job in left))  # noqa: B023  # awaited here
        heard += more
        trial.check.true(
            took is not None,
            f"{when}, a listener is told of each",
            expected=f"{kind.value!r} for {_named(left[0], kind)} too, or MISSED",
            seen=hearing.told(heard),
        )
        left = [job for job in left if not tells_of(more[-1], kind, job)]


def _named(job: JobRecord, kind: NoticeKind) -> str:
    return f"the queue {show(job.queue_id)}" + ("" if kind is NoticeKind.QUEUED else f" and the job {job.tracking_id}")


@rule("R124")
async def each_job_of_a_batch_is_told(trial: Trial) -> None:
    """Jobs of several queues are stored in one batch, and settled in one: the listener is told of each of them."""
    listening, acting = await trial.open(), await trial.open()
    jobs = [trial.job(trial.queue()) for _ in range(3) for _ in range(2)]
    async with Hearing.of(listening, *(job.queue_id for job in jobs)) as hearing:
        await hearing.settled()
        await acting.store_jobs(jobs)
        await must_hear(trial, hearing, NoticeKind.QUEUED, jobs, "when a batch of jobs of several queues is stored")

        taken = await trial.drain(acting, *(job.queue_id for job in jobs))
        trial.check.equal(len(taken), len(jobs), "all that was stored can be claimed")
        await hearing.settled()
        outcomes: list[Outcome] = [Succeeded(), failed(), Succeeded()] * 2
        batch = [Settlement(job.lease, outcome) for job, outcome in zip(taken, outcomes, strict=True)]
        await acting.settle_jobs(batch, now=T0)
        await must_hear(trial, hearing, NoticeKind.FINISHED, taken, "when a batch of jobs is settled")


@rule("R124")
async def listeners_of_one_instance_do_not_disturb_each_other(trial: Trial) -> None:
    """Two listeners of one instance, on the same queue, both hear; when one of them leaves, the other goes on."""
    listening, acting = await trial.open(), await trial.open()
    queues = [trial.queue(), trial.queue()]
    for leaver in (0, 1):
        leaving: list[AsyncExitStack] = []
        hearings: list[Hearing] = []
        async with AsyncExitStack() as both:
            for asked in (queues, queues[:1]):
                leaving.append(await both.enter_async_context(AsyncExitStack()))
                hearings.append(await leaving[-1].enter_async_context(Hearing.of(listening, *asked)))
            await _store_and_hear(trial, acting, hearings, queues[0], "with two listeners of one instance")
            await leaving[leaver].aclose()
            stays = hearings[1 - leaver]
            await _store_and_hear(trial, acting, [stays], queues[0], "after one of two listeners has left")


async def _store_and_hear(
    trial: Trial, acting: JobStorageProvider, hearings: list[Hearing], queue: str, when: str
) -> None:
    for hearing in hearings:
        await hearing.settled()
    job = trial.job(queue)
    await acting.store_jobs([job])
    for hearing in hearings:
        await must_hear(trial, hearing, NoticeKind.QUEUED, [job], when)


@rule("R124")
async def a_listener_that_reads_late_still_learns_of_the_last_change(trial: Trial) -> None:
    """Many jobs are stored and one cancelled before a listener reads anything: it is told of the cancel, or MISSED."""
    listening, acting = await trial.open(), await trial.open()
    count = trial.sized("changes before a listener reads", 1_500, least=150, seconds=0.2)
    for changes in (1, count):
        queue = trial.queue()
        jobs = trial.jobs(changes, queue)
        async with notifier_of(listening).listen(frozenset({queue})) as notices:
            unread = await _stored_one_by_one(acting, jobs)
            trial.check.equal(unread, changes, f"{changes} jobs are stored, each in time, though nobody reads yet")
            await acts.cancelled(acting, jobs[-1])
            heard, is_told = 0, False
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    async for notice in notices:
                        heard += 1
                        is_told = tells_of(notice, NoticeKind.CANCELLED, jobs[-1])
                        if is_told:
                            break
            trial.check.true(
                is_told,
                f"{changes} jobs are stored, the last is cancelled: a listener that reads only then learns of it",
                expected="once it reads: cancelled, or MISSED",
                seen=f"{heard} notices, none of them about that",
            )


async def _stored_one_by_one(acting: JobStorageProvider, jobs: list[JobRecord]) -> int:
    """Return how many of *jobs* were stored before one took too long."""
    for stored, job in enumerate(jobs):
        try:
            async with asyncio.timeout(PATIENCE):
                await acting.store_jobs([job])
        except TimeoutError:
            return stored
    return len(jobs)


@rule("R124")
async def a_listener_on_another_thread_is_told(trial: Trial) -> None:
    """A job is stored on this thread: a listener that sleeps on the event loop of another one is woken."""
    acting, thread, queue = await trial.open(), await trial.open_on_thread(), trial.queue()
    job = trial.job(queue)
    here, listens = asyncio.get_running_loop(), asyncio.Event()

    async def hear(storage: JobStorageProvider) -> tuple[float | None, str]:
        async with Hearing.of(storage, queue) as hearing:
            await hearing.settled()
            here.call_soon_threadsafe(listens.set)
            took, heard = await hearing.until(lambda notice: tells_of(notice, NoticeKind.QUEUED, job))
            return took, hearing.told(heard)

    hearing = asyncio.ensure_future(thread.run(hear))
    await listens.wait()
    await asyncio.sleep(FALLEN_ASLEEP)  # or the other event loop meets the notice on its way to sleep
    await acting.store_jobs([job])
    took, told = await hearing
    trial.check.true(
        took is not None and took < PATIENCE / 2,
        "when a job is stored on one thread, a listener on another one is told",
        expected="queued, or MISSED, soon",
        seen=told if took is None else f"{told}, after {took:.1f} s",
    )


@rule("R124", needs=frozenset({Need.SHARED}))
async def a_listener_of_another_process_is_told(trial: Trial) -> None:
    """A job is stored, settled, cancelled by another process: a listener of this one is told each time."""
    listening, child = await trial.open(), await trial.open_child()
    queue = trial.queue()
    first, second = trial.jobs(2, queue)
    async with Hearing.of(listening, queue) as hearing:

        async def told_of(kind: NoticeKind, job: JobRecord, verb: str, **arguments: object) -> None:
            await hearing.settled()
            await child.call(verb, **arguments)
            await must_hear(trial, hearing, kind, [job], f"when another process has called {verb}")

        await told_of(NoticeKind.QUEUED, first, "store_jobs", jobs=[first])
        claimed = await child.call("claim_jobs", claim=claim_of(queue))
        settlements = [Settlement(job.lease, Succeeded()) for job in claimed.jobs]
        await told_of(NoticeKind.FINISHED, first, "settle_jobs", settlements=settlements, now=T0)
        await listening.store_jobs([second])
        await told_of(NoticeKind.CANCELLED, second, "cancel_job", tracking_id=second.tracking_id, now=T0)


@rule("R124")
async def what_a_listener_is_told_of_is_there_by_then(trial: Trial) -> None:
    """Whoever looks when it is told of a change sees the change: nothing is told before it is done."""
    listening, acting = await trial.open(), await trial.open()
    queue = trial.queue()
    job = trial.job(queue)
    async with Hearing.of(listening, queue) as hearing:

        async def sees(kind: NoticeKind, status: JobStatus) -> None:
            heard: list[Notice] = []
            while True:
                took, more = await hearing.until(lambda notice: tells_of(notice, kind, job))
                heard += more
                seen = await listening.get_job(job.tracking_id)
                trial.check.true(
                    took is not None,
                    "a listener that looks when it is told of a change sees the change",
                    expected=f"a notice of the kind {kind.value!r}, or MISSED, once the job is {status}",
                    seen=f"{hearing.told(heard)}, and no other notice after that",
                )
                if seen is not None and seen.status is status:
                    return

        await hearing.settled()
        await asyncio.gather(acting.store_jobs([job]), sees(NoticeKind.QUEUED, JobStatus.PENDING))
        (taken,) = await acts.claim(acting, queue)
        await hearing.settled()
        settlement = Settlement(taken.lease, Succeeded())
        await asyncio.gather(acting.settle_jobs([settlement], now=T0), sees(NoticeKind.FINISHED, JobStatus.SUCCEEDED))


@rule("R124")
async def a_queue_of_any_name_is_heard(trial: Trial) -> None:
    """Whatever a queue is called that can be stored to, its listener is told of what is stored there."""
    listening, acting = await trial.open(), await trial.open()
    storable: list[str] = []
    for name in NAMES:
        with suppress(UnstorableError):
            await acting.store_jobs([trial.job(name)])
            storable.append(name)
    for name in storable:
        async with Hearing.of(listening, name) as hearing:
            await _store_and_hear(trial, acting, [hearing], name, f"in the queue {show(name)}")
