"""What is stored, and how it is claimed."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest
from attrs import evolve
from bson import ObjectId
from pymongo import MongoClient

from pannier.claims import Claim, Claimed, Demand
from pannier.errors import StorageClosedError, StorageRefusedError, UnstorableError
from pannier.errortext import to_tree
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import JobError, JobStatus, Json, Lease, Payload
from pannier.settlements import Failed, Release, Retry, Settlement, Succeeded
from pannier_mongo import _claiming, _queries, _settling
from pannier_mongo._documents import CODEC, LEASED, METADATA_BYTES, PAYLOAD_BYTES, TEXT_BYTES, TREE_CHARACTERS
from pannier_testing.builders import LEASE, QUEUE, SECOND, T0, claim_of, error_at, full_job, new_job
from pannier_testing.checks import same

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase

    from pannier_mongo._documents import JobDocument
    from pannier_mongo.provider import MongoStorage

    Database: TypeAlias = AsyncDatabase[Mapping[str, object]]

NewId: TypeAlias = Callable[[], UUID]
MakeStorage: TypeAlias = Callable[[str], "MongoStorage"]

MILLISECOND = timedelta(milliseconds=1)


def test_a_person_can_read_a_job(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId
) -> None:
    """Command and metadata are sub-documents, times are dates, the status is a word; what is not there is absent."""
    job = full_job(ids())
    plain = new_job(ids(), command={"to": ["a@example.org"], "copies": 2})
    runner.run(storage.store_jobs([job, plain]))
    stored = runner.run(
        other["pannier_jobs"].find_one({"command.tree.to": "a@example.org", "metadata": {"$exists": 0}})
    )

    assert stored == {
        "_id": plain.tracking_id,
        "queue_id": QUEUE,
        "command": {"encoding": "json", "tree": {"to": ["a@example.org"], "copies": 2}},
        "status": "pending",
        "priority": 0,
        "execute_after": T0,
        "created_at": T0,
        "attempt": 0,
        "lapses": 0,
        "fence": 0,
        "line": 0,
        "dequeue_after": T0,
    }


EXACTLY: Sequence[Json | bytes] = (
    {"a.b": 1},
    {"$set": {"x": 1}},
    {"": 1},
    {"a\0b": 1},
    {"\ud800": 1},
    "\udfff",
    "a\0b",
    2**31,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**64),
    10**400,
    -0.0,
    0.0,
    5e-324,
    1.0,
    True,
    None,
    "x" * (TREE_CHARACTERS + 1),
    {"_id": 1, "0": [{"1": []}]},
    [[[[[{}]]]]],
    b"",
    b"\0\xff",
)
"""What BSON can't hold, or a query would read as something else, and what comes close to that."""


@pytest.mark.parametrize("data", EXACTLY, ids=repr)
def test_a_payload_comes_back_exactly(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId, data: Json | bytes
) -> None:
    """Whatever BSON can't hold, or a query would read as something else, is kept in another form (R100, R104, R105)."""
    runner.run(storage.store_jobs([new_job(ids(), command=data)]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    runner.run(storage.store_progress(job.lease, Payload(data)))
    reported = runner.run(storage.get_job(job.tracking_id))
    runner.run(storage.settle_jobs([Settlement(job.lease, Succeeded(Payload(data)))], now=T0))
    ended = runner.run(storage.get_job_result(job.tracking_id))

    assert reported is not None
    assert ended is not None
    assert same(job.command, Payload(data))
    assert same(reported.progress, Payload(data))
    assert same(ended.result, Payload(data))


SIGNS = ("$where", '{"$gt": ""}', "$ne", "a.b", "a.$", "$$ROOT", "$queue_id", "queue_id", "_id", "$literal")


def test_no_name_is_read_as_an_operator(runner: asyncio.Runner, storage: "MongoStorage", ids: NewId) -> None:
    """Queues, keys, workers and metadata are texts, whatever a query or an update would make of them (R96, R101)."""
    jobs = {sign: new_job(ids(), sign, key=sign, metadata={sign: sign}) for sign in SIGNS}
    runner.run(storage.store_jobs(list(jobs.values())))

    for sign, job in jobs.items():
        assert runner.run(storage.store_jobs([new_job(ids(), sign, key=sign)])) == [job.tracking_id]
        for wanted in (JobFilter(queue_ids=frozenset({sign})), JobFilter(metadata={sign: sign})):
            assert runner.run(storage.find_jobs(wanted)).jobs == (job,)
            assert runner.run(storage.count_jobs(wanted)) == {(sign, JobStatus.PENDING): 1}
        (claimed,) = runner.run(storage.claim_jobs(claim_of(sign, limit=9, worker=sign))).jobs
        assert (claimed.tracking_id, claimed.worker_id) == (job.tracking_id, sign)
        error = JobError(attempt=1, at=T0, kind=sign, message=sign, traceback=sign)
        runner.run(storage.settle_jobs([Settlement(claimed.lease, Retry(T0, error))], now=T0))
        retried = runner.run(storage.get_job(job.tracking_id))
        assert retried is not None
        assert retried.errors == (error,)


@pytest.mark.parametrize("sign", [{"$gt": ""}, {"$ne": None}, ["a"], 1])
def test_no_operator_takes_a_name_s_place(ids: NewId, sign: object) -> None:
    """Whoever passes a request's values on as they come is refused before anything is sent (R106)."""
    for made in (
        lambda: new_job(ids(), sign),  # type: ignore[arg-type]
        lambda: new_job(ids(), key=sign),  # type: ignore[arg-type]
        lambda: new_job(ids(), metadata={"k": sign}),  # type: ignore[dict-item]
        lambda: JobFilter(metadata={"k": sign}),
        lambda: claim_of(worker=sign),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            made()


def test_a_tree_may_be_deeper_than_a_document(runner: asyncio.Runner, storage: "MongoStorage", ids: NewId) -> None:
    """MongoDB allows 100 levels; a deeper tree is kept as text (R103)."""
    data: Json = 1
    for _ in range(200):
        data = [data]
    runner.run(storage.store_jobs([new_job(ids(), command=data)]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs

    assert job.command == Payload(data)


def test_the_largest_payloads_fit_together(runner: asyncio.Runner, storage: "MongoStorage", ids: NewId) -> None:
    """A job whose command is as large as allowed can still report and succeed with as much (R102)."""
    large = Payload(b"x" * PAYLOAD_BYTES)
    runner.run(storage.store_jobs([new_job(ids(), command=large.data)]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    assert runner.run(storage.store_progress(job.lease, large))
    assert runner.run(storage.settle_jobs([Settlement(job.lease, Succeeded(large))], now=T0)) == frozenset()

    ended = runner.run(storage.get_job_result(job.tracking_id))
    assert ended is not None
    assert ended.result == large


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"command": b"x" * (PAYLOAD_BYTES + 1)}, "payload"),
        ({"command": "ü" * (PAYLOAD_BYTES // 2)}, "payload"),
        ({"key": "k" * (TEXT_BYTES + 1)}, "idempotency_key"),
        ({"key": "\ud800"}, "idempotency_key"),
        ({"queue_id": "\ud800"}, "queue_id"),
        ({"metadata": {"k": "v" * METADATA_BYTES}}, "metadata"),
        ({"metadata": {"\ud800": ""}}, "metadata"),
    ],
    ids=["bytes", "text", "long key", "key", "queue", "large metadata", "metadata"],
)
def test_what_can_t_be_held_is_refused_before_anything_is_written(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId, fields: "Mapping[str, object]", reason: str
) -> None:
    """The error names the job, and the rest of its batch is not stored either (R5, R101, R102)."""
    bad = new_job(ids(), **fields)  # type: ignore[arg-type]
    with pytest.raises(UnstorableError, match=reason) as caught:
        runner.run(storage.store_jobs([new_job(ids()), bad]))

    assert caught.value.tracking_id == bad.tracking_id
    assert runner.run(storage.count_jobs(JobFilter())) == {}


def test_instants_between_milliseconds_are_never_early(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Starts and ends of leases are rounded up, expiries down (R20)."""
    tick = timedelta(microseconds=1)
    job = new_job(ids(), execute_after=T0 + tick, expire_on=T0 + SECOND + tick, created_at=T0 + tick)
    runner.run(storage.store_jobs([job]))
    assert runner.run(storage.claim_jobs(claim_of(now=T0 + MILLISECOND - tick))).jobs == ()
    (claimed,) = runner.run(storage.claim_jobs(claim_of(now=T0 + MILLISECOND + tick))).jobs

    assert claimed.execute_after == T0 + MILLISECOND
    assert claimed.expire_on == T0 + SECOND
    assert claimed.created_at == T0
    assert claimed.dequeue_after == T0 + 2 * MILLISECOND + LEASE


def test_the_time_of_an_error_keeps_its_microseconds(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Nothing is decided by it, so that nothing is rounded (R54)."""
    at = T0 + timedelta(microseconds=123_456)
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    error = JobError(attempt=1, at=at, kind="$kind", message="$message", traceback="")
    runner.run(storage.settle_jobs([Settlement(job.lease, Retry(T0, error))], now=T0))

    stored = runner.run(storage.get_job(job.tracking_id))
    assert stored is not None
    assert stored.errors == (error,)


def test_a_job_before_what_was_seen_last_is_found(runner: asyncio.Runner, storage: "MongoStorage", ids: NewId) -> None:
    """What a claim has learned of a line only decides how much is read at once."""
    late = [new_job(ids(), execute_after=T0 + n * SECOND) for n in range(5)]
    runner.run(storage.store_jobs(late))
    now = T0 + 10 * SECOND
    assert runner.run(storage.claim_jobs(claim_of(limit=3, now=now))).jobs
    early = new_job(ids(), execute_after=T0 - 3600 * SECOND)
    runner.run(storage.store_jobs([early]))

    (first,) = runner.run(storage.claim_jobs(claim_of(limit=1, now=now))).jobs
    rest = runner.run(storage.claim_jobs(claim_of(limit=9, now=now)))
    assert first.tracking_id == early.tracking_id
    assert {job.tracking_id for job in rest.jobs} == {job.tracking_id for job in late[3:]}
    assert rest.next_due == now + LEASE


def test_a_claim_looks_past_many_expired_jobs(runner: asyncio.Runner, storage: "MongoStorage", ids: NewId) -> None:
    """It marks them on its way, at most a thousand at a time, and says that there is more to ask for (R27, R119)."""
    expired = [new_job(ids(), expire_on=T0 + SECOND) for _ in range(1_200)]
    fresh = new_job(ids(), execute_after=T0 + SECOND)
    runner.run(storage.store_jobs([*expired, fresh]))
    now = T0 + 2 * SECOND

    first = runner.run(storage.claim_jobs(claim_of(now=now)))
    assert first.jobs == ()
    assert first.next_due is not None
    assert first.next_due <= now
    second = runner.run(storage.claim_jobs(claim_of(now=now)))
    assert [job.tracking_id for job in second.jobs] == [fresh.tracking_id]
    assert runner.run(storage.count_jobs(JobFilter()))[QUEUE, JobStatus.EXPIRED] == 1_200


def test_a_damaged_job_stops_no_other(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId
) -> None:
    """It is leased and told apart, can be failed, and what is stored of it stays (R56)."""
    bad, good = new_job(ids()), new_job(ids())
    runner.run(storage.store_jobs([bad, good]))
    found = {"_id": bad.tracking_id}
    runner.run(other["pannier_jobs"].update_one(found, {"$set": {"command": {"encoding": "json", "text": "{"}}}))
    claimed = runner.run(storage.claim_jobs(claim_of(limit=2)))

    (unreadable,) = claimed.unreadable
    assert [job.tracking_id for job in claimed.jobs] == [good.tracking_id]
    assert unreadable.lease == Lease(bad.tracking_id, 1)
    error = JobError(attempt=1, at=T0, kind="k", message="unreadable")
    assert runner.run(storage.settle_jobs([Settlement(unreadable.lease, Failed(error))], now=T0)) == frozenset()
    with pytest.raises(StorageRefusedError, match="damaged by another hand"):
        runner.run(storage.get_job(bad.tracking_id))
    stored = runner.run(other["pannier_jobs"].find_one(found))
    assert stored is not None
    assert (stored["status"], stored["command"]) == ("failed", {"encoding": "json", "text": "{"})


@pytest.mark.parametrize("junk", [None, 7, "0", {"0": 0}, [None], [0, 101], [0, True], [[0]]], ids=repr)
def test_a_damaged_queue_stops_no_other_and_loses_no_job(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId, junk: object
) -> None:
    """Where another hand has left no priorities, a claim looks at all that there are (R56)."""
    own, beside = new_job(ids(), "damaged", priority=-3), new_job(ids(), "whole")
    runner.run(storage.store_jobs([own, beside]))
    runner.run(other["pannier_queues"].update_one({"_id": "damaged"}, {"$set": {"priorities": junk}}))
    claimed = runner.run(storage.claim_jobs(claim_of("damaged", "whole", limit=3)))

    assert {job.tracking_id for job in claimed.jobs} == {own.tracking_id, beside.tracking_id}


def test_claims_of_one_instant_share_the_jobs_out(
    runner: asyncio.Runner, storage: "MongoStorage", make: MakeStorage, ids: NewId
) -> None:
    """Whoever is slower finds that what it read has changed, and takes what is left (R30, R31)."""
    jobs = [new_job(ids(), execute_after=T0 + n * MILLISECOND) for n in range(60)]

    async def play() -> list[UUID]:
        await storage.store_jobs(jobs)
        second = make("&timeout=20")
        await second.open()
        taken: list[UUID] = []
        while True:
            batches = await asyncio.gather(
                *(each.claim_jobs(claim_of(limit=7, now=T0 + SECOND)) for each in (storage, second, storage))
            )
            taken += [job.tracking_id for batch in batches for job in batch.jobs]
            if all(batch.next_due is None or batch.next_due > T0 + SECOND for batch in batches):
                break
        await second.close()
        return taken

    taken = runner.run(play())
    assert sorted(taken) == sorted(job.tracking_id for job in jobs)


class Meddled:
    """The jobs as a claim reads them, where somebody changes one between the looks at two lines."""

    def __init__(self, jobs: "AsyncCollection[JobDocument]", meddle: Callable[[], object]) -> None:
        self._jobs = jobs
        self._meddle = meddle

    def find(self, wanted: "Mapping[str, object]") -> object:
        if wanted["line"] != LEASED:
            self._meddle()
        return self._jobs.find(wanted)


@pytest.fixture
def claim_beside(
    runner: asyncio.Runner, storage: "MongoStorage", mongo_url: str, database: str
) -> Iterator[Callable[..., Claimed]]:
    """Claims while another program changes a job, between the looks at the leased and the other lines."""
    other: MongoClient[Mapping[str, object]] = MongoClient(mongo_url)
    jobs = other.get_database(database, codec_options=CODEC)["pannier_jobs"]

    def claim_beside(
        claim: Claim, found: "Mapping[str, object]", change: "Mapping[str, object] | Sequence[Mapping[str, object]]"
    ) -> Claimed:
        opened = storage._checked
        latest = Meddled(opened.store.latest, lambda: jobs.update_one(found, change))
        store = evolve(opened.store, latest=latest)  # type: ignore[arg-type]  # what a claim needs of it
        return runner.run(_claiming.claim_jobs(store, opened.reaches, claim))

    yield claim_beside
    other.close()


def test_a_job_that_was_seen_twice_is_given_out_once(
    runner: asyncio.Runner, storage: "MongoStorage", claim_beside: Callable[..., Claimed], ids: NewId
) -> None:
    """A lapsed lease that is settled for another try while a claim reads stands in two lines for it (R29, R91)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    retry = _queries.retried(to_tree(error_at()), T0, ObjectId())
    claimed = claim_beside(claim_of(limit=2, now=T0 + LEASE), _queries.holding([job.lease]), retry)

    assert [taken.lease for taken in claimed.jobs] == [Lease(job.tracking_id, 2)]
    assert claimed.next_due is None


def test_a_job_that_was_leased_since_it_was_read_is_passed_over_even_if_that_is_over(
    runner: asyncio.Runner, storage: "MongoStorage", claim_beside: Callable[..., Claimed], ids: NewId
) -> None:
    """By its new lease others may stand before it, so the claimer asks again (R25, R91)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    taken = _queries.claimed(worker_id="bob", lease_end=T0 + 2 * LEASE, mark=ObjectId(), lapses=1)
    now = T0 + 3 * LEASE
    claimed = claim_beside(claim_of(limit=2, now=now), _queries.holding([job.lease]), taken)

    assert claimed.jobs == ()
    assert claimed.next_due == now


@pytest.mark.parametrize(
    ("ends", "limit"),
    [(T0 + LEASE, 1), (T0, 1), (T0 + LEASE, 0)],
    ids=["leased", "leased and lapsed", "leased, and nothing wanted"],
)
def test_a_job_that_another_claim_took_between_the_looks_counts_by_its_lease(
    runner: asyncio.Runner,
    storage: "MongoStorage",
    claim_beside: Callable[..., Claimed],
    ids: NewId,
    ends: datetime,
    limit: int,
) -> None:
    """It was no lease yet when the claim read those, and waited no more when it read what waits (R91, R121)."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    taken = _queries.claimed(worker_id="bob", lease_end=ends, mark=ObjectId(), lapses=0)
    claimed = claim_beside(claim_of(limit=limit), _queries.pending([job.tracking_id], 0), taken)

    assert claimed.jobs == ()
    assert claimed.next_due == ends


def test_a_job_that_was_given_back_between_the_looks_is_claimed(
    runner: asyncio.Runner, storage: "MongoStorage", claim_beside: Callable[..., Claimed], ids: NewId
) -> None:
    """It was leased when the claim read the leases, and waits when the claim reads what waits (R91, R121)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    found = {**_queries.holding([job.lease]), "worker_id": job.worker_id}
    claimed = claim_beside(claim_of(limit=2), found, _queries.released(ObjectId()))

    assert [taken.lease for taken in claimed.jobs] == [Lease(job.tracking_id, 2)]


def test_looking_again_for_leases_counts_none_that_the_claim_takes(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Nor what has expired: where nothing is left to claim, next_due is after now (R121)."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids(), expire_on=T0 + SECOND)]))
    assert len(runner.run(storage.claim_jobs(claim_of(limit=2))).jobs) == 2
    claimed = runner.run(storage.claim_jobs(claim_of(limit=2, now=T0 + LEASE)))

    assert len(claimed.jobs) == 1
    assert claimed.next_due is None


def test_a_look_ahead_to_the_end_of_the_calendar_sees_all(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """There is no instant beyond it to look up to (R81)."""
    last = datetime.max.replace(tzinfo=UTC, microsecond=999_000)
    runner.run(storage.store_jobs([new_job(ids(), execute_after=last)]))

    assert runner.run(storage.claim_jobs(claim_of(look_ahead=timedelta.max))).next_due == last


def test_batches_with_repeated_ids_and_keys_tell_what_stands(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Each position is answered as if it had been stored alone, in order (R5, R7, R10)."""
    first = new_job(ids(), key="k")
    runner.run(storage.store_jobs([first]))
    same_key, again = new_job(ids(), key="k"), new_job(ids(), key="l")
    other_key = new_job(same_key.tracking_id, key="m")
    standing = runner.run(storage.store_jobs([same_key, again, other_key, first, new_job(ids(), key="l")]))

    assert standing == [
        first.tracking_id,
        again.tracking_id,
        other_key.tracking_id,
        first.tracking_id,
        again.tracking_id,
    ]
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 3}


def test_a_lease_that_comes_twice_in_a_batch_is_settled_once(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """The first outcome counts, and the second is refused where it leads elsewhere (R50)."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids())]))
    one, two = runner.run(storage.claim_jobs(claim_of(limit=2))).jobs
    batch = [
        Settlement(one.lease, Succeeded()),
        Settlement(one.lease, Release()),
        Settlement(two.lease, Succeeded()),
        Settlement(two.lease, Succeeded()),
    ]

    assert runner.run(storage.settle_jobs(batch, now=T0)) == {one.lease}
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 2}


def test_results_that_are_settled_together_are_each_job_s_own(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Whatever the results look like, and whichever leases are refused, each job gets its own, exactly (R42, R100)."""
    results = [*EXACTLY, *SIGNS]
    results += [{sign: [sign]} for sign in ("where", "literal", "queue_id")]
    runner.run(storage.store_jobs([new_job(ids()) for _ in results]))
    jobs = runner.run(storage.claim_jobs(claim_of(limit=len(results)))).jobs
    expected = {job.tracking_id: Payload(data) for job, data in zip(jobs, results, strict=True)}
    cancelled = jobs[len(jobs) // 2]
    runner.run(storage.cancel_job(cancelled.tracking_id, now=T0))
    settlements = [Settlement(job.lease, Succeeded(expected[job.tracking_id])) for job in jobs]

    assert runner.run(storage.settle_jobs(settlements, now=T0)) == {cancelled.lease}
    ended = runner.run(storage.find_jobs(JobFilter(statuses=frozenset({JobStatus.SUCCEEDED})), limit=1000)).jobs
    assert {job.tracking_id for job in ended} == expected.keys() - {cancelled.tracking_id}
    assert all(same(job.result, expected[job.tracking_id]) for job in ended)
    assert {(job.finished_at, job.lapses, job.progress) for job in ended} == {(T0, 0, None)}


def test_small_results_share_updates_and_large_ones_have_their_own(ids: NewId) -> None:
    """An update holds 16 MiB, and one for each result takes the server twice as long."""
    small = [Settlement(Lease(ids(), 1), Succeeded(Payload(number))) for number in range(2 * _queries.PORTION + 1)]
    large = [Settlement(Lease(ids(), 1), Succeeded(Payload("x" * (TREE_CHARACTERS + 1)))) for _ in range(2)]

    assert [len(batch.all_writes(T0)) for batch in _settling.batches_of(small, T0)] == [3]
    assert [len(batch.all_writes(T0)) for batch in _settling.batches_of([*small, *large], T0)] == [5]


def test_fences_that_no_document_can_hold_are_refused(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """A lease that never was is lost, and no error of the driver (R8, R45)."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    invented = Lease(job.tracking_id, 2**64)

    assert runner.run(storage.renew_leases([invented], now=T0, lease_for=LEASE)) == {invented}
    assert runner.run(storage.settle_jobs([Settlement(invented, Release())], now=T0)) == {invented}
    assert not runner.run(storage.store_progress(invented, Payload(1)))


def test_a_purge_reaches_what_lies_behind_live_leases(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Jobs that run past their expiry stay; they are in nobody's way (R73, R74)."""
    running = [new_job(ids(), expire_on=T0 + SECOND) for _ in range(3)]
    runner.run(storage.store_jobs(running))
    assert len(runner.run(storage.claim_jobs(claim_of(limit=3))).jobs) == 3
    waiting = new_job(ids(), execute_after=T0 + SECOND, expire_on=T0 + 2 * SECOND)
    runner.run(storage.store_jobs([waiting]))
    stale = StaleJobs(now=T0 + 3 * SECOND, keep={}, limit=1)

    assert runner.run(storage.purge_stale_jobs(stale)).expired == 1
    assert runner.run(storage.purge_stale_jobs(stale)).expired == 0
    counts = runner.run(storage.count_jobs(JobFilter()))
    assert counts == {(QUEUE, JobStatus.RUNNING): 3, (QUEUE, JobStatus.EXPIRED): 1}


def test_a_demand_s_names_share_their_limit_by_priority(
    runner: asyncio.Runner, storage: "MongoStorage", ids: NewId
) -> None:
    """Across the names of a demand, priority decides (R24)."""
    low, high = new_job(ids(), "a"), new_job(ids(), "b", priority=9, execute_after=T0)
    runner.run(storage.store_jobs([low, high]))
    claim = claim_of("a", "b", limit=1)
    assert claim.demands == (Demand(("a", "b"), 1),)

    assert [job.tracking_id for job in runner.run(storage.claim_jobs(claim)).jobs] == [high.tracking_id]


def test_a_closed_storage_says_so(runner: asyncio.Runner, make: MakeStorage, ids: NewId) -> None:
    """Before open() and after close(), which may come twice (R93)."""
    storage = make("")
    with pytest.raises(StorageClosedError, match="not open"):
        runner.run(storage.get_job(ids()))
    runner.run(storage.open())
    runner.run(storage.open())
    runner.run(storage.close())
    runner.run(storage.close())

    with pytest.raises(StorageClosedError, match="not open"):
        runner.run(storage.claim_jobs(claim_of()))


def test_the_clock_is_the_server_s(runner: asyncio.Runner, storage: "MongoStorage") -> None:
    """An aware instant, so that workers on many machines agree."""
    at = runner.run(storage.read_clock())

    assert at is not None
    assert at.utcoffset() == timedelta(0)
