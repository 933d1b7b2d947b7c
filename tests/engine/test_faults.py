"""Faults of the storage: the worker waits until they pass, and loses nothing meanwhile (E4, E16)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
from attrs import frozen

from pannier import NO_RETRY, Command, JobContext, JobFailedError, JobQueues, WorkerOptions
from pannier.errors import StorageRefusedError, UnstorableError
from pannier.settlements import Failed, Settlement, Succeeded
from tests.engine.conftest import SHORT_LEASES, play, until
from tests.engine.troubled import Fault, TroubledStorage

PROMPT = WorkerOptions(storage_retry_delay=timedelta(milliseconds=20))


@frozen
class Work(Command[str]):
    """Gives its own text."""

    text: str = "fine"


@pytest.fixture
def runs(troubled: JobQueues) -> list[str]:
    """What the handler of `Work` was run with."""
    seen: list[str] = []

    @troubled.handler(retry=NO_RETRY)
    async def work(command: Work) -> str:
        seen.append(command.text)
        if command.text == "raise":
            raise ValueError("no")
        return command.text

    return seen


@pytest.mark.parametrize("error", [None, RuntimeError("a fault of the adapter")])
def test_faults_while_claiming_pass(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str], error: Exception | None
) -> None:
    """E4: whatever a claim raises, the next one is made."""
    storage.before["claim_jobs"] = Fault(5, error)

    async def main() -> None:
        async with troubled.worker(PROMPT):
            tracking_id = await troubled.queue_job(Work())
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "fine"

    play(main)
    assert storage.calls["claim_jobs"] >= 6


@pytest.mark.parametrize("text", ["fine", "raise"])
def test_an_outcome_is_settled_when_the_storage_answers_again(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str], text: str
) -> None:
    """E4: neither a success nor a failure is dropped on a fault, and the handler is not run again."""
    storage.before["settle_jobs"] = Fault(5)

    async def main() -> None:
        async with troubled.worker(PROMPT):
            tracking_id = await troubled.queue_job(Work(text))
            await until(lambda: storage.calls["settle_jobs"] == 6)
            await until(lambda: _is_complete(troubled, tracking_id))

    play(main)
    assert runs == [text]
    assert len(set(storage.settlements)) == 1


def test_an_outcome_whose_reply_is_lost_is_settled_once(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str]
) -> None:
    """E4: a repeated settlement is no second run."""
    storage.after["settle_jobs"] = Fault(3)

    async def main() -> None:
        async with troubled.worker(PROMPT):
            tracking_id = await troubled.queue_job(Work())
            await until(lambda: storage.calls["settle_jobs"] == 4)
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "fine"

    play(main)
    assert runs == ["fine"]


def test_leases_are_renewed_while_an_outcome_waits_to_be_settled(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str]
) -> None:
    """E4: an outage of settling that is longer than a lease costs no second run."""
    lease_for = SHORT_LEASES.lease_for.total_seconds()
    healed = asyncio.Event()

    async def fail_until_healed() -> None:
        if not healed.is_set():
            raise ConnectionResetError

    storage.before["settle_jobs"] = fail_until_healed

    async def main() -> None:
        async with troubled.worker(SHORT_LEASES):
            tracking_id = await troubled.queue_job(Work())
            await until(lambda: runs)
            await asyncio.sleep(2 * lease_for)
            healed.set()
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "fine"

    play(main)
    assert runs == ["fine"]


@pytest.mark.parametrize("error", [None, RuntimeError("a fault of the adapter")])
def test_progress_is_stored_when_the_storage_answers_again(
    troubled: JobQueues, storage: TroubledStorage, error: Exception | None
) -> None:
    """E4: a report waits for the storage rather than failing its handler, whatever the storage raises."""
    storage.before["store_progress"] = Fault(2, error)
    answers: list[bool] = []

    @troubled.handler(retry=NO_RETRY)
    async def work(command: Work, job: JobContext[str]) -> str:
        answers.append(await job.report(current_step=1, total_steps=2))
        return command.text

    async def main() -> None:
        async with troubled.worker():
            tracking_id = await troubled.queue_job(Work())
            assert await troubled.tracker(Work).wait_for_result(tracking_id) == "fine"

    play(main)
    assert answers == [True]
    assert storage.calls["store_progress"] == 3


def test_a_result_that_the_storage_cannot_hold_fails_the_job_for_good(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str]
) -> None:
    """E16: the reason is kept, and no other outcome waits for it."""
    refuse_results_of(storage, "too large")

    async def main() -> None:
        async with troubled.worker():
            bad, good = await troubled.queue_jobs([Work("too large"), Work()])
            with pytest.raises(JobFailedError, match="too large for this storage"):
                await troubled.tracker(Work).wait_for_result(bad)
            assert await troubled.tracker(Work).wait_for_result(good) == "fine"

    play(main)
    assert sorted(runs) == ["fine", "too large"]


def test_a_storage_that_refuses_every_outcome_of_a_job_is_not_asked_without_a_pause(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str]
) -> None:
    """E16: where even the failure can't be held, the worker goes on trying, and goes on breathing."""

    async def refuse() -> None:
        raise UnstorableError(storage.settlements[-1].lease.tracking_id, "no room")

    storage.before["settle_jobs"] = refuse

    async def main() -> None:
        async with troubled.worker(PROMPT):
            await troubled.queue_job(Work())
            await until(lambda: storage.calls["settle_jobs"] == 2)
            await asyncio.sleep(0.2)
            assert storage.calls["settle_jobs"] == 2
            del storage.before["settle_jobs"]
            await until(lambda: storage.calls["settle_jobs"] == 3)

    play(main)


@pytest.mark.parametrize("error", [StorageRefusedError("a bad row"), UnstorableError(None, "no"), RuntimeError("no")])
def test_an_outcome_that_is_refused_holds_up_no_other(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str], error: Exception
) -> None:
    """E4: where the storage doesn't say whose it refuses, each is settled alone; the refused one comes again."""
    healed = asyncio.Event()

    async def refuse() -> None:
        if any(has_result(settlement, "bad") for settlement in storage.latest_settlements) and not healed.is_set():
            raise error

    storage.before["settle_jobs"] = refuse

    async def main() -> None:
        async with troubled:
            bad, *good = await troubled.queue_jobs([Work("bad"), *(Work() for _ in range(9))])
            async with troubled.worker(PROMPT):
                for tracking_id in good:
                    assert await troubled.tracker(Work).wait_for_result(tracking_id) == "fine"
                assert not await _is_complete(troubled, bad)
                healed.set()
                assert await troubled.tracker(Work).wait_for_result(bad) == "bad"

    play(main)
    assert len(runs) == 10


def test_an_outcome_that_was_put_aside_is_waited_for_at_the_end(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str]
) -> None:
    """E4: a worker that stops tries again what was refused before; it is not lost for want of a second."""
    storage.before["settle_jobs"] = Fault(3, StorageRefusedError("the disk is full"))

    async def main() -> None:
        async with troubled:
            async with troubled.worker(PROMPT):
                tracking_id = await troubled.queue_job(Work())
                await until(lambda: storage.calls["settle_jobs"] == 3)
            assert await _is_complete(troubled, tracking_id)

    play(main)
    assert runs == ["fine"]


@pytest.mark.parametrize("blamed", ["the job", "nobody"])
def test_a_job_that_can_neither_be_read_nor_failed_holds_up_no_other(
    troubled: JobQueues, storage: TroubledStorage, runs: list[str], blamed: str
) -> None:
    """R56: it is left to its lease, and the outcomes that wait beside it are settled."""

    async def refuse() -> None:
        for settlement in storage.latest_settlements:
            if isinstance(settlement.outcome, Failed):
                raise UnstorableError(
                    settlement.lease.tracking_id if blamed == "the job" else None, "its row is damaged"
                )

    async def main() -> None:
        storage.before["settle_jobs"] = refuse
        storage.unreadable = "it is damaged"
        async with troubled:
            damaged = await troubled.queue_job(Work("damaged"))
            async with troubled.worker(PROMPT):
                await until(lambda: storage.calls["settle_jobs"])
                storage.unreadable = None
                tracking_id = await troubled.queue_job(Work())
                assert await troubled.tracker(Work).wait_for_result(tracking_id) == "fine"
            assert not await _is_complete(troubled, damaged)

    play(main)
    assert runs == ["fine"]


def test_what_cannot_be_read_is_settled_as_failed(troubled: JobQueues, storage: TroubledStorage) -> None:
    """R56: a job whose stored form is damaged is leased like any other, never runs, and stops no other."""
    storage.unreadable = "its command is no JSON"
    runs: list[str] = []

    @troubled.handler()
    async def work(command: Work) -> str:
        runs.append(command.text)
        return command.text

    async def main() -> None:
        async with troubled.worker():
            tracking_id = await troubled.queue_job(Work())
            with pytest.raises(JobFailedError, match="its command is no JSON"):
                await troubled.tracker(Work).wait_for_result(tracking_id)

    play(main)
    assert runs == []


def test_faults_while_purging_pass(troubled: JobQueues, storage: TroubledStorage, runs: list[str]) -> None:
    """E4: the next round of purging is made."""
    storage.before["purge_stale_jobs"] = Fault(2)

    async def main() -> None:
        async with troubled.worker(WorkerOptions(purge_every=timedelta(milliseconds=10))):
            await until(lambda: storage.calls["purge_stale_jobs"] >= 3)

    play(main)


def test_no_more_is_claimed_while_too_many_outcomes_wait(troubled: JobQueues, storage: TroubledStorage) -> None:
    """A storage that does not settle is not asked for more and more jobs."""
    healed = asyncio.Event()
    storage.before["settle_jobs"] = _waiting(healed)
    runs: list[str] = []

    @troubled.handler(max_concurrency=500, prefetch=0)
    async def work(command: Work) -> str:
        runs.append(command.text)
        return command.text

    async def main() -> None:
        async with troubled.worker():
            await troubled.queue_jobs([Work() for _ in range(4_000)])
            await until(lambda: len(runs) >= 2_000)
            await asyncio.sleep(0.1)
            assert len(runs) < 3_600
            healed.set()
            await until(lambda: len(runs) == 4_000)

    play(main)


def refuse_results_of(storage: TroubledStorage, text: str) -> None:
    """Let *storage* refuse a settlement with *text* as its result."""

    async def refuse() -> None:
        for settlement in storage.latest_settlements:
            if has_result(settlement, text):
                raise UnstorableError(settlement.lease.tracking_id, "too large for this storage")

    storage.before["settle_jobs"] = refuse


def has_result(settlement: Settlement, text: str) -> bool:
    outcome = settlement.outcome
    return isinstance(outcome, Succeeded) and outcome.result is not None and outcome.result.data == text


async def _is_complete(jobs: JobQueues, tracking_id: UUID) -> bool:
    found = await jobs.storage.get_job(tracking_id)
    return found is not None and found.is_complete


def _waiting(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await event.wait()

    return wait
