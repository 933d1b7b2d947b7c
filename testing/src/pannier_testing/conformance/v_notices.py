"""Section V: push hints arrive in time, and a listener that lost its connection is told so."""

from collections.abc import Awaitable, Callable
from typing import Final

from pannier.notices import NoticeKind
from pannier.settlements import Release, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import T0, claim_of, failed, ids_of
from pannier_testing.hearing import Hearing, tells
from pannier_testing.outages import proxied
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, notifier_of

SOON: Final = 1.0
"""Seconds after which a notice is late."""


@rule("R124")
async def changes_reach_a_listener_of_another_instance(trial: Trial) -> None:
    """A job is stored, cancelled, settled on one instance: a listener of another one is told so within a second."""
    listening, acting = await trial.open(), await trial.open()
    for name, (kind, prepare) in CHANGES.items():
        late: list[float] = []
        for _ in range(3):
            queue = trial.queue()
            change = await prepare(trial, acting, queue)
            async with Hearing.of(listening, queue) as hearing:
                await hearing.settled()
                await change()
                took, heard = await hearing.until(lambda notice, kind=kind, queue=queue: tells(notice, kind, queue))  # type: ignore[misc]  # an early binding
            trial.check.true(
                took is not None,
                f"when {name}, a listener of another instance is told",
                expected=f"a notice of the kind {kind.value!r} for its queue, or MISSED",
                seen=hearing.told(heard),
            )
            late += [] if took is None or took <= SOON else [took]
        trial.check.true(
            len(late) < 2,
            f"when {name}, a listener of another instance is told within a second",
            expected="1 s, in two of three repeats",
            seen=late,
        )


Change = Callable[[], Awaitable[object]]
Prepare = Callable[[Trial, JobStorageProvider, str], Awaitable[Change]]


async def _store(trial: Trial, storage: JobStorageProvider, queue: str) -> Change:
    return lambda: storage.store_jobs([trial.job(queue)])


async def _cancel(trial: Trial, storage: JobStorageProvider, queue: str) -> Change:
    job = trial.job(queue)
    await storage.store_jobs([job])
    return lambda: acts.cancelled(storage, job)


async def _cancel_running(trial: Trial, storage: JobStorageProvider, queue: str) -> Change:
    job = await trial.started(storage, trial.job(queue))
    return lambda: acts.cancelled(storage, job)


async def _succeed(trial: Trial, storage: JobStorageProvider, queue: str) -> Change:
    job = await trial.started(storage, trial.job(queue))
    return lambda: acts.settle(storage, job, Succeeded())


async def _fail(trial: Trial, storage: JobStorageProvider, queue: str) -> Change:
    job = await trial.started(storage, trial.job(queue))
    return lambda: acts.settle(storage, job, failed())


CHANGES: Final[dict[str, tuple[NoticeKind, Prepare]]] = {
    "a job is stored": (NoticeKind.QUEUED, _store),
    "a waiting job is cancelled": (NoticeKind.CANCELLED, _cancel),
    "a running job is cancelled": (NoticeKind.CANCELLED, _cancel_running),
    "a job succeeds": (NoticeKind.FINISHED, _succeed),
    "a job fails": (NoticeKind.FINISHED, _fail),
}
"""What a listener is told of, by what happens: the kind of the notice, and how it is prepared."""


@rule("R124")
async def every_listener_hears_of_each_of_its_queues(trial: Trial) -> None:
    """Two listeners of several queues, of two instances, are told of a job that is stored in any of them."""
    one, two, acting = await trial.open(), await trial.open(), await trial.open()
    queues = [trial.queue() for _ in range(3)]
    async with Hearing.of(one, *queues) as first, Hearing.of(two, *queues) as second:
        for queue in queues:
            for hearing in (first, second):
                await hearing.settled()
            await acting.store_jobs([trial.job(queue)])
            for hearing in (first, second):
                took, heard = await hearing.until(lambda notice, queue=queue: tells(notice, NoticeKind.QUEUED, queue))  # type: ignore[misc]  # an early binding
                trial.check.true(
                    took is not None,
                    "each listener of several queues is told of a job in any of them",
                    expected=f"a notice of the kind {NoticeKind.QUEUED.value!r} for {queue!r}, or MISSED",
                    seen=hearing.told(heard),
                )


@rule("R124")
async def nothing_depends_on_who_listens(trial: Trial) -> None:
    """A listener that reads nothing, and one that left, hold nobody up: all that is stored can be claimed."""
    listening, acting = await trial.open(), await trial.open()
    queue = trial.queue()
    async with notifier_of(listening).listen(frozenset({queue})):
        pass
    async with notifier_of(listening).listen(frozenset({queue})):
        jobs = trial.jobs(trial.sized("unread notices", 2_000, least=200, seconds=1), queue)
        for start in range(0, len(jobs), 20):
            batch = jobs[start : start + 20]
            stored = await trial.check.answers(acting.store_jobs(batch), "a listener that reads nothing stops no store")
            trial.check.equal(stored, ids_of(batch), "what is stored where nobody reads the notices")
        claimed = await trial.drain(listening, queue)
        trial.check.counts(ids_of(claimed), ids_of(jobs), "jobs whose notices nobody read are claimed all the same")
        await acts.must_settle(trial.check, listening, claimed[0], Release())


@rule("R124", needs=frozenset({Need.NETWORK}))
async def a_listener_that_lost_its_connection_is_told(trial: Trial) -> None:
    """The connection of a listener is reset, twice: it gets MISSED each time, and then notices as before."""
    acting = await trial.open()
    queue = trial.queue()
    async with proxied(trial) as (proxy, listening):
        async with Hearing.of(listening, queue) as hearing:
            for _ in range(2):
                await hearing.settled()
                proxy.cut()
                took, heard = await hearing.until(lambda notice: notice.kind is NoticeKind.MISSED)
                trial.check.true(
                    took is not None,
                    "a listener that lost its connection gets MISSED once it has a new one",
                    expected="MISSED",
                    seen=hearing.told(heard),
                )
                await hearing.settled()
                await acting.store_jobs([trial.job(queue)])
                took, heard = await hearing.until(lambda notice: tells(notice, NoticeKind.QUEUED, queue))
                trial.check.true(
                    took is not None,
                    "a listener that has a new connection is told of what happens then",
                    expected="queued, or MISSED",
                    seen=hearing.told(heard),
                )
            claimed = await acting.claim_jobs(claim_of(queue, limit=5, now=T0))
            trial.check.equal(len(claimed.jobs), 2, "jobs are there whatever a listener was told")
        await listening.close()
