"""Section R: a broken connection costs a call or two and never a job, and the storage mends itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar

from attrs import frozen

from pannier.errors import StorageError
from pannier.inspection import JobFilter
from pannier.notices import NoticeKind
from pannier.records import JobRecord
from pannier.storage import JobStorageProvider
from pannier_testing.builders import ids_of
from pannier_testing.checks import InconclusiveError
from pannier_testing.hearing import Hearing, tells
from pannier_testing.outages import (
    DOWN,
    IN_TIME,
    TIMEOUT,
    answer_of,
    bring_down,
    bytes_of,
    interrupted,
    mended,
    must_be_unavailable,
    proxied,
    url_with_timeout,
)
from pannier_testing.processor import share_of_a_processor
from pannier_testing.proxy import FaultProxy
from pannier_testing.rules import Need, rule
from pannier_testing.scenes import Scene, scene_names, scene_of
from pannier_testing.trial import Trial, inspector_of, notifier_of, results_of

T = TypeVar("T")

Call = Callable[[], Awaitable[object]]


async def must_all_be_unavailable(trial: Trial, calls: Mapping[str, Call], when: str) -> None:
    """See the same of *calls* that are awaited at the same time, each told by its name and *when* it is made."""
    told = [must_be_unavailable(trial, call(), f"to {name}, {when},") for name, call in calls.items()]
    for end in await asyncio.gather(*told, return_exceptions=True):
        if end is not None:
            raise end


def calls_of(trial: Trial, storage: JobStorageProvider, scenes: list[Scene]) -> dict[str, Call]:
    """Return a call of every verb that has to ask the server, by what it does."""
    any_id = scenes[0].job.tracking_id
    calls: dict[str, Call] = {scene.name: lambda scene=scene: scene.act.on(storage) for scene in scenes}  # type: ignore[misc]  # an early binding
    calls["look a job up"] = lambda: storage.get_job(any_id)
    if trial.offers(Need.RESULTS):
        calls["look a result up"] = lambda: results_of(storage).get_job_result(any_id)
    if trial.offers(Need.INSPECT):
        calls["list jobs"] = lambda: inspector_of(storage).find_jobs(JobFilter())
        calls["count jobs"] = lambda: inspector_of(storage).count_jobs(JobFilter())
    if trial.offers(Need.NOTIFY):
        calls["listen"] = lambda: _listen(storage)
    return calls


async def _listen(storage: JobStorageProvider) -> None:
    async with notifier_of(storage).listen(frozenset({"mail"})):
        pass


async def must_do_all(
    trial: Trial, direct: JobStorageProvider, storage: JobStorageProvider, scenes: list[Scene]
) -> None:
    """See that *storage* can do at last what *scenes* are about, and reads what is there."""
    for scene in scenes:
        await mended(trial, lambda scene=scene: scene.act.on(storage), f"to {scene.name}")  # type: ignore[misc]  # an early binding
        promise = f"to {scene.name}, once the server is there again, has its effect"
        trial.check.equal(await direct.get_job(scene.job.tracking_id), scene.after, promise)
    for scene in scenes:
        seen = await mended(trial, lambda scene=scene: storage.get_job(scene.job.tracking_id), "to look a job up")  # type: ignore[misc]
        trial.check.equal(seen, scene.after, "each call gets its own answer once the server is there again")


@rule("R109")
async def opening_where_the_server_is_down_fails_in_time(trial: Trial) -> None:
    """Nobody listens, or the server hangs up, or says nothing: open() says so in time, and opens later."""
    url = url_with_timeout(trial, TIMEOUT)
    with FaultProxy(url, trial.place.tmp) as proxy:
        nobody = proxy.url
    await must_be_unavailable(trial, trial.create(nobody).open(), "open() where nobody listens")
    with FaultProxy(url, trial.place.tmp) as proxy:
        for what, faults in DOWN.items():
            proxy.set(**faults)
            storage = trial.create(proxy.url)
            await must_be_unavailable(trial, storage.open(), f"open() of a server that {what}")
            proxy.heal()
            await mended(trial, storage.open, f"open() after the server {what}")
            job = trial.job(trial.queue())
            stored = await mended(trial, lambda: storage.store_jobs([job]), "to store a job")  # noqa: B023  # awaited
            trial.check.equal(stored, [job.tracking_id], "a storage that was opened at last stores jobs")


@rule("R109")
async def every_call_to_a_server_that_is_down_fails_in_time(trial: Trial) -> None:
    """Each verb, all at once: StorageUnavailableError in time, and nothing was done; later each of them works."""
    direct = await trial.open()
    scenes = [await scene_of(trial, direct, name) for name in scene_names(trial)]
    async with proxied(trial, TIMEOUT) as (proxy, storage):
        bring_down(proxy, {"refuse": True})
        await must_all_be_unavailable(trial, calls_of(trial, storage, scenes), "while the server is down")
        for scene in scenes:
            seen = await direct.get_job(scene.job.tracking_id)
            trial.check.equal(seen, scene.before, f"to {scene.name}, while the server is down, has no effect")
        proxy.heal()
        await must_do_all(trial, direct, storage, scenes)


@frozen
class Cut:
    """Where a connection is reset: once so many bytes have gone one way."""

    fault: str
    after: int

    def __str__(self) -> str:
        return f"the connection reset after {self.after} more bytes were {self.fault.rpartition('_')[2]}"


def cuts_in(trial: Trial, sent: int, received: int) -> list[Cut]:
    """Choose where to cut a call that sends and receives so many bytes: at its ends and between."""
    between = 10 if trial.is_thorough else 1
    return [
        Cut(f"reset_after_{way}", after)
        for way, total in (("sent", sent), ("received", received))
        for after in sorted({0, max(0, total - 1), *(trial.rng.randrange(max(1, total)) for _ in range(between))})
    ]


@rule("R110", deadline=timedelta(seconds=180))
async def a_call_that_is_reset_happened_or_not(trial: Trial) -> None:
    """Each operation, its connection reset at its bytes: done or not done, and the same instance can repeat it."""
    direct = await trial.open()
    async with proxied(trial) as (proxy, storage):
        for name in scene_names(trial):
            for cut in cuts_in(trial, *await bytes_of(trial, proxy, direct, storage, name)):
                scene = await scene_of(trial, direct, name)
                where = f"to {name}, {cut}"
                proxy.set(**{cut.fault: cut.after})
                await interrupted(trial, proxy, scene.act.on(storage), where)
                await scene.is_done(direct, trial.check, where)
                await mended(trial, lambda scene=scene: scene.act.on(storage), where)  # type: ignore[misc]  # an early binding
                seen = await direct.get_job(scene.job.tracking_id)
                trial.check.equal(seen, scene.after, f"{where}: once it was repeated, it is done, and done once")
        trial.sizes["resets"] = proxy.strikes
    if trial.sizes["resets"] < len(scene_names(trial)):
        raise InconclusiveError(f"only {trial.sizes['resets']} calls were reset")


@rule("R110")
async def connections_that_are_all_cut_are_replaced(trial: Trial) -> None:
    """Every connection is cut while ten calls are on their way: each happened or not, and can be repeated."""
    direct = await trial.open()
    queue = trial.queue()
    jobs: list[JobRecord] = []
    async with proxied(trial) as (proxy, storage):
        for number in range(5):
            batches = [trial.jobs(2, queue) for _ in range(10)]
            proxy.set(latency=0.002 * number)
            calls = [asyncio.ensure_future(answer_of(storage.store_jobs(batch))) for batch in batches]
            await asyncio.wait(calls, timeout=0.003 * number)
            proxy.cut()
            proxy.heal()
            which = f"ten calls at once, all connections cut in the middle of them ({number})"
            for batch, call in zip(batches, calls, strict=True):
                answer = await trial.check.answers(call, f"{which}: an answer, or StorageUnavailableError")
                repeated = await mended(trial, lambda batch=batch: storage.store_jobs(batch), which)  # type: ignore[misc]
                for stored in (answer, repeated):
                    if not isinstance(stored, StorageError):
                        trial.check.equal(stored, ids_of(batch), f"{which}: what a store answers")
            jobs += [job for batch in batches for job in batch]
    claimed = await trial.drain(direct, queue)
    trial.check.counts(ids_of(claimed), ids_of(jobs), "jobs that were stored again after a cut are there once each")


@rule("R113")
async def calls_to_a_silent_server_end_in_time(trial: Trial) -> None:
    """Nothing passes any more: every verb fails in time, and so all do that close; then each gets its own answer."""
    await _stall(trial, {"is_silent": True}, "while nothing passes")


@rule("R113")
async def calls_to_a_slow_server_end_in_time(trial: Trial) -> None:
    """Everything takes three times as long as the timeout: every verb fails in time; then each gets its own answer."""
    await _stall(trial, {"latency": 3 * TIMEOUT.total_seconds()}, "while everything passes too late")


async def _stall(trial: Trial, faults: Mapping[str, object], when: str) -> None:
    direct = await trial.open()
    scenes = [await scene_of(trial, direct, name) for name in scene_names(trial)]
    async with proxied(trial, TIMEOUT) as (proxy, storage):
        closing = trial.create(proxy.url)
        await mended(trial, closing.open, "open()")
        proxy.set(**faults)
        await must_all_be_unavailable(trial, calls_of(trial, storage, scenes), when)
        await trial.check.answers(closing.close(), f"close(), {when}, ends all the same", within=TIMEOUT + IN_TIME)
        proxy.heal()
        for scene in scenes:
            await scene.is_done(direct, trial.check, f"{when} and given up")
        await must_do_all(trial, direct, storage, scenes)


@rule("R113")
async def waiting_for_a_server_takes_no_processor(trial: Trial) -> None:
    """The server is down, in each way; one calls, one listens: less than a tenth of a processor is used."""
    async with proxied(trial, TIMEOUT) as (proxy, storage), _listening(trial, storage):
        for what, faults in DOWN.items():
            caller = asyncio.ensure_future(_call_again_and_again(storage, trial.job()))
            proxy.set(**faults)
            if "refuse" in faults:
                proxy.cut()
            shares = await _shares_of_a_processor()
            caller.cancel()
            await asyncio.wait([caller])
            proxy.heal()
            trial.check.true(
                shares[-1] < BUSY,
                f"a storage whose server {what} waits between its tries",
                expected=f"less than {BUSY:.0%} of a processor, in one of three seconds",
                seen=", ".join(f"{share:.0%}" for share in shares),
            )


BUSY: Final = 0.1
"""The share of a processor from which on a storage that waits counts as busy."""


async def _shares_of_a_processor() -> list[float]:
    """Measure what this process wants, for a second each, until it is little or three seconds are over."""
    shares: list[float] = []
    while len(shares) < 3 and not (shares and shares[-1] < BUSY):
        shares.append(await share_of_a_processor(1))
    return shares


async def _call_again_and_again(storage: JobStorageProvider, job: JobRecord) -> None:
    while True:
        await answer_of(storage.get_job(job.tracking_id))
        await asyncio.sleep(0.25)


@asynccontextmanager
async def _listening(trial: Trial, storage: JobStorageProvider) -> AsyncIterator[None]:
    """Listen meanwhile, if the storage can."""
    if not trial.offers(Need.NOTIFY):
        yield
        return
    async with Hearing.of(storage, trial.queue()):
        yield


@rule("R113", needs=frozenset({Need.NOTIFY}))
async def a_listener_hears_again_once_the_server_is_back(trial: Trial) -> None:
    """The server is down for longer than the timeout: what happened meanwhile and what happens then is heard."""
    acting = await trial.open()
    async with proxied(trial, TIMEOUT) as (proxy, listening):
        for what, faults in DOWN.items():
            queue = trial.queue()
            async with Hearing.of(listening, queue) as hearing:
                await hearing.settled()
                bring_down(proxy, faults)
                await acting.store_jobs([trial.job(queue)])
                await asyncio.sleep(1.5 * TIMEOUT.total_seconds())  # the outage has to outlast the timeout
                proxy.heal()
                await _must_hear(trial, hearing, queue, f"what happened while the server {what}")
                await hearing.settled()
                await acting.store_jobs([trial.job(queue)])
                await _must_hear(trial, hearing, queue, f"what happens after the server {what}")


async def _must_hear(trial: Trial, hearing: Hearing, queue: str, which: str) -> None:
    took, heard = await hearing.until(lambda notice: tells(notice, NoticeKind.QUEUED, queue))
    trial.check.true(
        took is not None,
        f"a listener is told of {which}, by a notice or by MISSED, without listening anew",
        expected="queued, or MISSED",
        seen=hearing.told(heard),
    )
