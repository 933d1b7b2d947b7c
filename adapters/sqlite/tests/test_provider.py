"""The verbs, where SQLite could get in their way. What every storage must do is the conformance suite's business."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from attrs import evolve

from pannier.errors import StorageClosedError, UnstorableError
from pannier.inspection import JobFilter
from pannier.notices import NoticeKind
from pannier.purging import StaleJobs
from pannier.records import Cancellation, JobError, JobStatus, Lease, Payload
from pannier.settlements import Failed, Release, Settlement, Succeeded
from pannier_sqlite import _claiming, _rows
from pannier_sqlite._thread import AnyCall, ConnectionThread, Kind, run_reads
from pannier_testing.builders import LEASE, QUEUE, SECOND, T0, claim_of, full_job, new_job

if TYPE_CHECKING:
    from pannier_sqlite.provider import SqliteStorage

NewId = Callable[[], UUID]
ERROR = JobError(attempt=1, at=T0, kind="ValueError", message="no")


def test_a_call_that_fails_leaves_the_others_of_its_transaction_alone(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """Calls awaited together share a transaction, and each gets its own answer (R122)."""
    good, bad = new_job(ids()), new_job(ids(), "\ud800")

    async def play() -> Sequence[object]:
        return await asyncio.gather(
            storage.store_jobs([good]),
            storage.store_jobs([new_job(ids()), bad]),
            storage.claim_jobs(claim_of()),
            storage.renew_leases([1], now=T0, lease_for=LEASE),  # type: ignore[list-item]
            return_exceptions=True,
        )

    stored, refused, claimed, wrong = runner.run(play())
    assert stored == [good.tracking_id]
    assert isinstance(refused, UnstorableError)
    assert refused.tracking_id == bad.tracking_id
    assert [job.tracking_id for job in claimed.jobs] == [good.tracking_id]  # type: ignore[attr-defined]
    assert isinstance(wrong, TypeError)


def test_a_transaction_that_fails_is_done_again_call_by_call(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """An error that only the engine can raise meets the call that causes it, and no other (R122)."""
    other.execute(
        "CREATE TRIGGER fault BEFORE INSERT ON pannier_jobs WHEN NEW.priority = 13 "
        "BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    )
    first, fault, last = new_job(ids()), new_job(ids(), priority=13), new_job(ids())

    async def play() -> list[object]:
        return await asyncio.gather(
            *(storage.store_jobs([job]) for job in (first, fault, last)), return_exceptions=True
        )

    answers = runner.run(play())
    assert answers[::2] == [[first.tracking_id], [last.tracking_id]]
    assert type(answers[1]).__name__ == "StorageRefusedError"
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 2}


@pytest.mark.parametrize("count", [_rows.ALIKE - 1, _rows.ALIKE, 2 * _rows.ALIKE + 7])
def test_jobs_that_are_alike_come_back_as_they_were_stored(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId, count: int
) -> None:
    """However many of them one statement takes; what stands between others of its kind is no less itself."""
    jobs = [new_job(ids(), command={"number": number}) for number in range(count)]
    jobs[3] = evolve(jobs[3], priority=7, expire_on=None, metadata={"tenant": "a"})
    jobs[-2] = evolve(jobs[-2], command=Payload(b"\0", "raw"))

    async def play() -> None:
        assert await storage.store_jobs(jobs) == [job.tracking_id for job in jobs]
        assert [await storage.get_job(job.tracking_id) for job in jobs] == jobs

    runner.run(play())


@pytest.mark.parametrize("place", [1, _rows.ALIKE + 5])
@pytest.mark.parametrize("priority", [0, 7])
def test_the_first_job_of_an_id_stands_wherever_the_second_is(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId, place: int, priority: int
) -> None:
    """R5, in one batch: with the other of its kind in the same statement, or of another kind in one of its own."""
    jobs = [new_job(ids(), command={"number": number}) for number in range(2 * _rows.ALIKE)]
    first = jobs[0] = evolve(jobs[0], priority=priority)
    jobs[place] = evolve(jobs[place], tracking_id=first.tracking_id)

    async def play() -> None:
        await storage.store_jobs(jobs)
        assert await storage.get_job(first.tracking_id) == first
        assert await storage.count_jobs(JobFilter()) == {(QUEUE, JobStatus.PENDING): len(jobs) - 1}

    runner.run(play())


def test_calls_of_one_turn_of_the_loop_are_taken_together(runner: asyncio.Runner) -> None:
    """Though each caller gives the interpreter away before he calls: the thread does not begin with the first."""
    taken: list[int] = []

    def run(connection: sqlite3.Connection, calls: Sequence[AnyCall]) -> None:
        taken.append(len(calls))
        run_reads(connection, calls)

    async def ask(thread: ConnectionThread) -> int:
        _give_the_interpreter_away()
        return await thread.call(Kind.READ, lambda: lambda _: 7, lambda found: found)

    async def play() -> None:
        thread = ConnectionThread(lambda: closing(sqlite3.connect(":memory:")), run, name="test", timeout_seconds=5)
        await thread.start()
        assert await asyncio.gather(*(ask(thread) for _ in range(5))) == [7] * 5
        asked = asyncio.ensure_future(ask(thread))
        await asyncio.sleep(0)
        thread.dismiss()  # which takes along what was asked for before
        assert await asked == 7
        await thread.join()

    runner.run(play())
    assert taken == [5, 1]


def _give_the_interpreter_away() -> None:
    time.sleep(0.01)


def test_a_cancelled_call_disturbs_nobody(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """The work of a cancelled task is done or not; the others of its group are answered (R91)."""
    jobs = [new_job(ids()) for _ in range(20)]

    async def play() -> list[object]:
        tasks = [asyncio.create_task(storage.store_jobs([job])) for job in jobs]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = runner.run(play())
    assert answers[1::2] == [[job.tracking_id] for job in jobs[1::2]]
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])


def test_a_settlement_and_a_claim_share_a_transaction_in_their_order(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """What is settled there is not claimed there, unless its settlement makes it due again."""
    jobs = [new_job(ids()) for _ in range(2)]
    runner.run(storage.store_jobs(jobs))
    done, released = runner.run(storage.claim_jobs(claim_of(limit=2))).jobs

    async def play() -> UUID:
        _, claimed = await asyncio.gather(
            storage.settle_jobs([Settlement(done.lease, Succeeded()), Settlement(released.lease, Release())], now=T0),
            storage.claim_jobs(claim_of(limit=2, now=T0 + LEASE)),
        )
        (job,) = claimed.jobs
        return job.tracking_id

    assert runner.run(play()) == released.tracking_id


def test_two_settlements_of_one_lease_in_one_batch_follow_one_another(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """The first is applied; a second that leads elsewhere is refused, whatever their kinds (R50)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    batch = [Settlement(job.lease, Failed(ERROR)), Settlement(job.lease, Succeeded())]

    assert runner.run(storage.settle_jobs(batch, now=T0)) == {job.lease}
    stored = runner.run(storage.get_job(job.tracking_id))
    assert stored is not None
    assert stored.status is JobStatus.FAILED


def test_a_job_comes_back_as_it_was_stored_after_reopening(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """Every field is in the file (R84)."""
    job = full_job(ids())
    runner.run(storage.store_jobs([job]))
    runner.run(storage.close())
    runner.run(storage.open())

    assert runner.run(storage.get_job(job.tracking_id)) == job


@pytest.mark.parametrize("damage", ["'{\"broken'", "CAST(x'7bff' AS TEXT)"], ids=["no JSON", "no UTF-8"])
def test_a_damaged_command_stops_no_other_job(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId, damage: str
) -> None:
    """It is leased like the others, named with a reason, can be settled, and is shown as it is stored (R56)."""
    whole, broken = new_job(ids()), new_job(ids())
    runner.run(storage.store_jobs([whole, broken]))
    damaging = f"UPDATE pannier_jobs SET command = {damage} WHERE tracking_id = ?"  # noqa: S608
    other.execute(damaging, (str(broken.tracking_id),))

    claimed = runner.run(storage.claim_jobs(claim_of(limit=2)))
    assert [job.tracking_id for job in claimed.jobs] == [whole.tracking_id]
    (unreadable,) = claimed.unreadable
    assert unreadable.lease == Lease(broken.tracking_id, 1)
    assert runner.run(storage.settle_jobs([Settlement(unreadable.lease, Failed(ERROR))], now=T0)) == frozenset()
    shown = runner.run(storage.get_job(broken.tracking_id))
    assert shown is not None
    assert shown.status is JobStatus.FAILED
    assert shown.command.encoding == "unreadable json"
    assert runner.run(storage.find_jobs(JobFilter(statuses=frozenset({JobStatus.FAILED})))).jobs == (shown,)


def test_a_job_that_was_due_before_all_years_stops_no_claim_that_leaves_it(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """When another hand has moved it there, `next_due` still says only that there is more (R121)."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids())]))
    other.execute("UPDATE pannier_jobs SET dequeue_after = -9223372036854775808")

    claimed = runner.run(storage.claim_jobs(claim_of(limit=1)))

    assert len(claimed.jobs) == 1
    assert claimed.next_due == T0


def test_damaged_errors_do_not_keep_a_job_from_its_end(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Settling never fails for what another hand has done to the history of errors."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    other.execute("UPDATE pannier_jobs SET errors = CAST(x'ff' AS TEXT)")

    assert runner.run(storage.settle_jobs([Settlement(job.lease, Failed(ERROR))], now=T0)) == frozenset()
    stored = runner.run(storage.get_job(job.tracking_id))
    assert stored is not None
    assert stored.errors == (ERROR,)


def test_a_claim_marks_a_bounded_number_of_expired_jobs_and_asks_to_be_repeated(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """A backlog of expired jobs is cleared step by step; the job behind it is found (R27, R119)."""
    due = new_job(ids(), execute_after=T0 + SECOND)
    expired = [new_job(ids(), expire_on=T0 + SECOND) for _ in range(_claiming.MAX_EXPIRED + 1)]
    runner.run(storage.store_jobs([*expired, due]))

    now = T0 + 2 * SECOND
    first = runner.run(storage.claim_jobs(claim_of(now=now)))
    second = runner.run(storage.claim_jobs(claim_of(now=now)))
    assert (first.jobs, first.next_due) == ((), now)
    assert [job.tracking_id for job in second.jobs] == [due.tracking_id]


def test_a_lease_that_would_end_after_the_last_year_is_a_value_error(
    runner: asyncio.Runner, storage: "SqliteStorage"
) -> None:
    """What can't be said in a datetime is refused in words (R81)."""
    last = datetime(9999, 12, 31, tzinfo=UTC)
    with pytest.raises(ValueError, match="after the year 9999"):
        runner.run(storage.claim_jobs(claim_of(now=last, lease_for=timedelta(days=2))))
    with pytest.raises(ValueError, match="after the year 9999"):
        runner.run(storage.renew_leases([], now=last, lease_for=timedelta(days=2)))


def test_a_fence_that_no_column_holds_is_refused(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """An invented lease is an answer, not an error of the driver (R45)."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    lease = Lease(job.tracking_id, 2**70)

    assert runner.run(storage.renew_leases([lease], now=T0, lease_for=LEASE)) == {lease}
    assert runner.run(storage.settle_jobs([Settlement(lease, Release())], now=T0)) == {lease}
    assert not runner.run(storage.store_progress(lease, Payload(1)))


def test_requeueing_a_job_that_would_be_expired_at_once_is_a_value_error(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """No stored record is one that could not have been made."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    assert runner.run(storage.cancel_job(job.tracking_id, now=T0)) is Cancellation.CANCELLED

    with pytest.raises(ValueError, match="must lie after now"):
        runner.run(storage.requeue_job(job.tracking_id, now=T0, expire_on=T0))


def test_filters_are_exact_for_any_text(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """A NUL, a quote or a backslash in a queue's name or in metadata hides and matches nothing else (R96, R97)."""
    odd = new_job(ids(), "a\0b", metadata={'k"\\': "\0v"})
    plain = new_job(ids(), "a", metadata={"k": "v"})
    runner.run(storage.store_jobs([odd, plain]))

    assert runner.run(storage.count_jobs(JobFilter(queue_ids=frozenset({"a\0b"})))) == {("a\0b", JobStatus.PENDING): 1}
    assert runner.run(storage.count_jobs(JobFilter(metadata={'k"\\': "\0v"}))) == {("a\0b", JobStatus.PENDING): 1}
    assert runner.run(storage.find_jobs(JobFilter(queue_ids=frozenset({"a"})))).jobs == (plain,)
    assert runner.run(storage.claim_jobs(claim_of("a\0b"))).jobs[0].tracking_id == odd.tracking_id


@pytest.mark.parametrize("metadata", [{"a\ud83d\ude00": ""}, {"": "\ud83d\ude00"}], ids=ascii)
def test_metadata_that_json_text_would_alter_is_refused(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId, metadata: dict[str, str]
) -> None:
    """Two lone surrogates in a row would come back as one character (R101)."""
    with pytest.raises(UnstorableError, match="metadata"):
        runner.run(storage.store_jobs([new_job(ids(), metadata=metadata)]))


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.0", "²", "9" * 30, 7])
def test_a_cursor_of_nobody_is_a_value_error(runner: asyncio.Runner, storage: "SqliteStorage", cursor: str) -> None:
    """Only what find_jobs gave out is taken (R99)."""
    with pytest.raises(ValueError, match="was not given out"):
        runner.run(storage.find_jobs(JobFilter(), cursor=cursor))


def test_a_purge_is_bounded_over_all_queues_and_statuses(
    runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId
) -> None:
    """At most `limit` are marked and at most `limit` deleted, and repeated steps reach the end (R72, R74)."""
    jobs = [new_job(ids(), f"q{number % 3}", expire_on=T0 + SECOND) for number in range(9)]
    runner.run(storage.store_jobs(jobs))
    stale = StaleJobs(now=T0 + SECOND, keep={JobStatus.EXPIRED: timedelta(0)}, limit=4)

    steps = [runner.run(storage.purge_stale_jobs(stale)) for _ in range(5)]
    assert [(step.expired, step.deleted) for step in steps] == [(4, 0), (4, 4), (1, 4), (0, 1), (0, 0)]


def test_a_retention_without_end_keeps_jobs(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """A retention of more microseconds than an integer of SQLite's holds is one that never ends (R72)."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    runner.run(storage.cancel_job(job.tracking_id, now=T0))
    stale = StaleJobs(now=T0 + SECOND, keep={JobStatus.CANCELLED: timedelta.max})

    assert runner.run(storage.purge_stale_jobs(stale)).deleted == 0


def test_a_closed_storage_says_so_and_opens_again(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """Closing twice is fine, using it afterwards is an error (R93)."""
    runner.run(storage.close())
    runner.run(storage.close())
    with pytest.raises(StorageClosedError, match="not open"):
        runner.run(storage.get_job(ids()))
    with pytest.raises(StorageClosedError, match="not open"):
        storage.listen(frozenset({QUEUE}))
    runner.run(storage.open())
    assert runner.run(storage.get_job(ids())) is None


@pytest.mark.parametrize("watch", ["auto", "poll"])
def test_a_commit_of_another_instance_is_noticed(
    runner: asyncio.Runner,
    storage: "SqliteStorage",
    make: Callable[[str], "SqliteStorage"],
    ids: NewId,
    watch: str,
) -> None:
    """A listener hears of a store elsewhere as MISSED (R124)."""

    async def play() -> NoticeKind:
        listener = make(f"&watch={watch}")
        await listener.open()
        async with asyncio.timeout(10), listener.listen(frozenset({QUEUE})) as notices:
            await storage.store_jobs([new_job(ids())])
            notice = await anext(notices)
        await listener.close()
        return notice.kind

    assert runner.run(play()) is NoticeKind.MISSED


def test_commits_of_one_s_own_are_no_news(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """A busy worker is not woken by its own settlements: the first notice follows the first foreign commit."""

    async def play() -> int:
        async with storage.listen(frozenset({QUEUE})) as notices:
            heard: asyncio.Task[object] = asyncio.ensure_future(anext(notices))
            for _ in range(20):
                await storage.store_jobs([new_job(ids())])
                await asyncio.sleep(0.005)
            is_heard = heard.done()
            heard.cancel()
            await asyncio.wait([heard])
        return is_heard

    assert not runner.run(play())
