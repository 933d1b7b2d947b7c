"""The verbs, where memory could get in their way. What every storage must do is the conformance suite's business."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from pannier.inspection import JobFilter
from pannier.notices import Notice, NoticeKind
from pannier.purging import StaleJobs
from pannier.records import Cancellation, JobStatus, Json, Payload
from pannier.settlements import Failed, Release, Settlement, Succeeded
from pannier_memory import _claiming
from pannier_memory._copying import copy_tree
from pannier_memory.provider import MemoryStorage
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, error_at, full_job, new_job

MakeStorage = Callable[[str], MemoryStorage]
NewId = Callable[[], UUID]


def test_nothing_is_shared_with_who_stores_claims_or_asks(
    runner: asyncio.Runner, storage: MemoryStorage, ids: NewId
) -> None:
    """R3: a tree that the caller changes later, at either end, is not the one that is kept."""
    tree: Json = {"to": ["Ada"]}
    tracking_id = ids()

    async def main() -> None:
        await storage.store_jobs([new_job(tracking_id, command=tree)])
        spoil(tree)
        for job in [*(await storage.claim_jobs(claim_of())).jobs, await storage.get_job(tracking_id)]:
            assert job is not None
            assert job.command.data == {"to": ["Ada"]}
            spoil(job.command.data)
        progress, result = Payload({"to": []}), Payload({"to": [1]})
        [lease] = [job.lease for job in (await storage.find_jobs(JobFilter())).jobs]
        await storage.store_progress(lease, progress)
        spoil(progress.data)
        stored = await storage.get_job_result(tracking_id)
        assert stored is not None
        assert stored.progress == Payload({"to": []})
        await storage.settle_jobs([Settlement(lease, Succeeded(result))], now=T0)
        spoil(result.data)
        job = await storage.get_job(tracking_id)
        assert job is not None
        assert job.result == Payload({"to": [1]})

    runner.run(main())


def spoil(tree: object) -> None:
    """Change *tree* in place."""
    assert isinstance(tree, dict)
    tree["to"].append("somebody else")


def test_a_tree_of_any_depth_is_copied() -> None:
    """R103: without recursion; what stands in two places does so in the copy."""
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]
    shared: Json = {"x": 1}
    copied = copy_tree({"deep": deep, "a": shared, "b": [shared]})
    assert isinstance(copied, dict)
    assert isinstance(copied["b"], list)
    assert copied["a"] is copied["b"][0]
    assert copied["a"] is not shared


def test_a_full_job_comes_back_as_it_was(runner: asyncio.Runner, storage: MemoryStorage, ids: NewId) -> None:
    """R1: every field."""
    job = full_job(ids())
    runner.run(storage.store_jobs([job]))
    assert runner.run(storage.get_job(job.tracking_id)) == job


def test_a_claim_marks_a_bounded_number_of_expired_jobs_and_asks_to_be_repeated(
    runner: asyncio.Runner, storage: MemoryStorage, ids: NewId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R92, R119: a backlog that has expired is worked off in steps, and hides nothing behind it."""
    monkeypatch.setattr(_claiming, "MAX_EXPIRED", 10)
    expired = [new_job(ids(), expire_on=T0 + SECOND) for _ in range(25)]
    live = new_job(ids(), priority=-1)
    later = T0 + 2 * SECOND

    async def main() -> None:
        await storage.store_jobs([*expired, live])
        first = await storage.claim_jobs(claim_of(now=later))
        assert (first.jobs, first.next_due) == ((), later)
        taken = [job for _ in range(2) for job in (await storage.claim_jobs(claim_of(now=later))).jobs]
        assert [job.tracking_id for job in taken] == [live.tracking_id]
        counts = await storage.count_jobs(JobFilter())
        assert counts["mail", JobStatus.EXPIRED] == 25

    runner.run(main())


def test_a_purge_finds_a_job_whose_lease_it_met_and_that_was_shortened_since(
    runner: asyncio.Runner, storage: MemoryStorage, ids: NewId
) -> None:
    """R39, R73: the purge looks again when the lease ends, wherever a renewal has moved that."""
    expired, later = T0 + SECOND, T0 + 2 * SECOND

    def stale(now: datetime) -> StaleJobs:
        return StaleJobs(now=now, limit=10, keep={})

    async def main() -> None:
        await storage.store_jobs([new_job(ids(), expire_on=expired)])
        [job] = (await storage.claim_jobs(claim_of())).jobs
        assert (await storage.purge_stale_jobs(stale(expired))).expired == 0
        assert await storage.renew_leases([job.lease], now=expired, lease_for=SECOND) == frozenset()
        assert (await storage.purge_stale_jobs(stale(later))).expired == 1

    runner.run(main())


def test_next_due_is_exact(runner: asyncio.Runner, storage: MemoryStorage, ids: NewId) -> None:
    """R121: of what the claim left, the lease of another worker included; None beyond the look-ahead."""

    async def main() -> None:
        await storage.store_jobs([new_job(ids()), new_job(ids(), execute_after=T0 + 90 * SECOND)])
        assert (await storage.claim_jobs(claim_of(limit=5))).next_due == T0 + 90 * SECOND
        assert (await storage.claim_jobs(claim_of(limit=5))).next_due == T0 + LEASE
        assert (await storage.claim_jobs(claim_of(limit=5, look_ahead=SECOND))).next_due is None

    runner.run(main())


def test_a_batch_that_is_refused_has_stored_nothing(runner: asyncio.Runner, storage: MemoryStorage, ids: NewId) -> None:
    """R5: all of it is looked at first."""
    jobs = [new_job(ids()) for _ in range(3)]

    async def main() -> None:
        await storage.store_jobs(jobs[:1])
        [claimed] = (await storage.claim_jobs(claim_of())).jobs
        with pytest.raises(ValueError, match="is not new"):
            await storage.store_jobs([*jobs[1:], claimed])
        assert len((await storage.find_jobs(JobFilter())).jobs) == 1

    runner.run(main())


def test_a_large_call_gives_others_their_turn(runner: asyncio.Runner, storage: MemoryStorage, ids: NewId) -> None:
    """R92: copying, listing and purging thousands of jobs is cut up."""
    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def main() -> None:
        jobs = [new_job(ids()) for _ in range(5_000)]
        counting = asyncio.create_task(count_turns())
        for call in (
            storage.store_jobs(jobs),
            storage.count_jobs(JobFilter()),
            storage.find_jobs(JobFilter(), limit=10),
        ):
            before = len(turns)
            await call
            assert len(turns) - before > 1
        counting.cancel()

    runner.run(main())


def test_a_cancelled_call_has_done_all_or_nothing(runner: asyncio.Runner, storage: MemoryStorage, ids: NewId) -> None:
    """R94: the step under the lock has no await in it."""

    async def main() -> None:
        jobs = [new_job(ids()) for _ in range(5_000)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await storage.store_jobs(jobs)
        assert len((await storage.find_jobs(JobFilter())).jobs) == 0

    runner.run(main())


def test_notices_reach_other_instances_and_not_their_author(
    runner: asyncio.Runner, make: MakeStorage, ids: NewId
) -> None:
    """R124: what one does oneself is no news."""
    author, listener = make("memory://shop"), make("memory://shop")
    tracking_id = ids()

    async def main() -> None:
        await author.open()
        await listener.open()
        async with listener.listen(frozenset({"mail"})) as notices, author.listen(frozenset({"mail"})) as own:
            await author.store_jobs([new_job(tracking_id), new_job(ids(), "other queue")])
            assert await anext(notices) == Notice(NoticeKind.QUEUED, "mail")
            assert await author.cancel_job(tracking_id, now=T0) is Cancellation.CANCELLED
            assert await anext(notices) == Notice(NoticeKind.CANCELLED, "mail", tracking_id)
            await listener.store_jobs([new_job(ids())])
            assert (await anext(own)).kind is NoticeKind.QUEUED
        await author.close()
        await listener.close()

    runner.run(main())


def test_what_is_over_is_forgotten_whole(runner: asyncio.Runner, storage: MemoryStorage, ids: NewId) -> None:
    """R76: nothing of a purged job is left in any of the store's maps."""

    async def main() -> None:
        for _ in range(50):
            await storage.store_jobs([new_job(ids(), f"queue {number}", key=str(number)) for number in range(20)])
            claimed = await storage.claim_jobs(claim_of(*(f"queue {number}" for number in range(20)), limit=20))
            await storage.settle_jobs([Settlement(job.lease, Failed(error_at())) for job in claimed.jobs], now=T0)
            await storage.purge_stale_jobs(StaleJobs(now=T0, keep={JobStatus.FAILED: timedelta(0)}))
        store = storage._opened()  # there is no other way to look
        assert (len(store.jobs), len(store.keys), len(store.queues)) == (0, 0, 0)

    runner.run(main())


def test_a_released_job_is_due_again_in_its_old_place(
    runner: asyncio.Runner, storage: MemoryStorage, ids: NewId
) -> None:
    """R59: ahead of what was queued for later."""
    first, second = new_job(ids()), new_job(ids(), execute_after=T0 + SECOND)
    later = T0 + 2 * SECOND

    async def main() -> None:
        await storage.store_jobs([first, second])
        [claimed] = (await storage.claim_jobs(claim_of())).jobs
        await storage.settle_jobs([Settlement(claimed.lease, Release())], now=later)
        [again] = (await storage.claim_jobs(claim_of(now=later))).jobs
        assert again.tracking_id == first.tracking_id

    runner.run(main())


def test_a_lease_that_would_end_after_the_last_year_takes_nothing(
    runner: asyncio.Runner, storage: MemoryStorage, ids: NewId
) -> None:
    """R81: an error, and the job still waits."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    tracking_id = ids()

    async def main() -> None:
        await storage.store_jobs([new_job(tracking_id)])
        with pytest.raises(ValueError, match="after the year 9999"):
            await storage.claim_jobs(claim_of(now=last))
        job = await storage.get_job(tracking_id)
        assert job is not None
        assert job.status is JobStatus.PENDING

    runner.run(main())


@pytest.mark.parametrize("cursor", ["", "x", "1", "{00000000-0000-0000-0000-000000000000}", "0" * 32])
def test_a_cursor_of_nobody_is_a_value_error(runner: asyncio.Runner, storage: MemoryStorage, cursor: str) -> None:
    """R99: also one that only looks like a tracking id."""
    with pytest.raises(ValueError, match="was not given out by find_jobs"):
        runner.run(storage.find_jobs(JobFilter(), cursor=cursor))
