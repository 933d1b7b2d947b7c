"""Queries: pure functions that return the filters and updates of MongoDB."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from bson import DatetimeMS, ObjectId
from pymongo import IndexModel

from pannier.errortext import StoredError
from pannier.inspection import JobFilter
from pannier.instants import to_microseconds
from pannier.records import COMPLETE, KEPT_ERRORS, JobStatus, Lease
from pannier_mongo._documents import LEASED, JobDocument, StoredPayload, is_text

Item = TypeVar("Item")

Filter: TypeAlias = Mapping[str, object]
Update: TypeAlias = Mapping[str, object]
Pipeline: TypeAlias = Sequence[Mapping[str, object]]

FIRST_INSTANT: Final = datetime.min.replace(tzinfo=UTC)

LAST_INSTANT: Final = datetime.max.replace(tzinfo=UTC)

INSTANT: Final = 2**128
"""How many positions in a line an instant has: one for each tracking id."""

INDEXES: Final = (
    IndexModel(
        [("queue_id", 1), ("line", 1), ("dequeue_after", 1), ("_id", 1)],
        name="pannier_line",
        partialFilterExpression={"line": {"$gte": -100}},  # unfinished jobs
    ),
    IndexModel(
        [("queue_id", 1), ("status", 1), ("stale_since", 1)],
        name="pannier_stale",
        partialFilterExpression={"stale_since": {"$gte": FIRST_INSTANT}},
    ),
    IndexModel(
        [("queue_id", 1), ("idempotency_key", 1)],
        name="pannier_key",
        unique=True,
        partialFilterExpression={"idempotency_key": {"$gt": ""}},
    ),
)
"""Every index; partial by comparisons rather than by $exists, which a comparison in a filter is known to imply."""

SETTLING_INDEX: Final = IndexModel([("at", 1)], name="pannier_forgotten", expireAfterSeconds=600)
"""Lets the server forget what no open transaction can be about any more: it ends them after a minute by default."""

IN_LINE: Final = [("dequeue_after", 1), ("_id", 1)]
"""The order within a line."""

STATE: Final = ("fence", "status", "expire_on", "settled")
"""What tells whether a settlement's effect stands."""

_UNFINISHED: Final = {"$in": [JobStatus.PENDING.value, JobStatus.RUNNING.value]}
_ENDED_UNSUCCESSFULLY: Final = {"$in": sorted(status.value for status in COMPLETE - {JobStatus.SUCCEEDED})}


PORTION: Final = 25
"""
How many ids one filter names where many updates travel in one command anyway.

SecantusDB 0.7 compares every id of a list with every document: 100 ids in one list take it 1.6 times as long.
"""


LOOKUP: Final = 100
"""How many ids one find names, for the same reason."""


def lookups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut *items* into what one find names."""
    for start in range(0, len(items), LOOKUP):
        yield items[start : start + LOOKUP]


def portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut *items* into what one filter names."""
    for start in range(0, len(items), PORTION):
        yield items[start : start + PORTION]


# What to find. `_id` stands first: it is what an index answers, whatever else is asked.


def with_id(tracking_id: UUID) -> Filter:
    """Match one job."""
    return {"_id": tracking_id}


def with_ids(tracking_ids: Iterable[UUID]) -> Filter:
    """Match some jobs."""
    return {"_id": {"$in": list(tracking_ids)}}


def with_keys(queue_id: str, keys: Sequence[str]) -> Filter:
    """Match the jobs of a queue that have one of *keys*."""
    return {"queue_id": queue_id, "idempotency_key": keys[0] if len(keys) == 1 else {"$in": list(keys)}}


def standing_for(document: JobDocument) -> Filter:
    """Match the job that stands in place of *document*: that with its key, or with its id. Fit for an upsert."""
    if "idempotency_key" in document:
        return {"queue_id": document["queue_id"], "idempotency_key": document["idempotency_key"]}
    return {"_id": document["_id"], "queue_id": document["queue_id"]}


def start_of(instant: datetime) -> int:
    """Return the first position of *instant*."""
    return to_microseconds(instant) // 1000 * INSTANT


def position_of(document: JobDocument) -> int:
    """Return where a job stands in its line: by its due time, then by its tracking id; what has none stands last."""
    tracking_id: object = document["_id"]
    return start_of(document["dequeue_after"]) + (tracking_id.int if isinstance(tracking_id, UUID) else INSTANT - 1)


def in_line(queue_id: str, line: int, *, since: int, until: int) -> tuple[Filter, int]:
    """
    Match the jobs of a line from one position to before another, or the first part of them that one filter can match.

    Whole instants, or a part of one: SecantusDB 0.7 reads no less for a range of ids that lies within a range of times.
    Spelt with $lt, since it takes $lte for $lt where the index goes on behind the field.

    Returns:
        The filter, and the position that it reaches.
    """
    (first, from_id), last = divmod(since, INSTANT), until // INSTANT
    if from_id or first == last:
        beyond = min(until, (first + 1) * INSTANT)
        times: object = DatetimeMS(first)
        ids = {"_id": _from_to(UUID(int=from_id), UUID(int=beyond % INSTANT) if beyond % INSTANT else None)}
    else:
        beyond = last * INSTANT
        times = _from_to(DatetimeMS(first), DatetimeMS(last) if beyond <= start_of(LAST_INSTANT) else None)
        ids = {}
    return {"queue_id": queue_id, "line": line, "dequeue_after": times, **ids}, beyond


def _from_to(since: object, until: object) -> Mapping[str, object]:
    """Compare with $gte, and with $lt where anything can lie beyond."""
    return {"$gte": since} if until is None else {"$gte": since, "$lt": until}


def pending(tracking_ids: Sequence[UUID], fence: int) -> Filter:
    """Match pending jobs that nobody has claimed or requeued since they were read with *fence*."""
    return {"_id": {"$in": tracking_ids}, "status": JobStatus.PENDING.value, "fence": fence}


def lapsed(tracking_ids: Sequence[UUID], fence: int, end: datetime) -> Filter:
    """Match running jobs whose lease, which is over, nobody has renewed or taken since it was read."""
    ids = {"$in": tracking_ids}
    return {"_id": ids, "status": JobStatus.RUNNING.value, "fence": fence, "dequeue_after": end}


def marked(tracking_ids: Sequence[UUID], mark: ObjectId) -> Filter:
    """Match the jobs that the claim with *mark* took."""
    return {"_id": {"$in": tracking_ids}, "claim": mark, "status": JobStatus.RUNNING.value}


def holding(leases: Sequence[Lease]) -> Filter:
    """Match the jobs whose current leases these are; all have one fence."""
    ids: object = leases[0].tracking_id if len(leases) == 1 else {"$in": [lease.tracking_id for lease in leases]}
    return {"_id": ids, "fence": leases[0].fence, "status": JobStatus.RUNNING.value}


def holding_until(lease: Lease, at: datetime) -> Filter:
    """Match the job whose current lease this is, if it expires until *at*."""
    return {**holding([lease]), "expire_on": {"$lte": at}}


def unfinished(tracking_id: UUID) -> Filter:
    """Match the job if it is not complete."""
    return {"_id": tracking_id, "status": _UNFINISHED}


def requeueable(tracking_id: UUID) -> Filter:
    """Match the job if it is complete, but did not succeed."""
    return {"_id": tracking_id, "status": _ENDED_UNSUCCESSFULLY}


def standing(document: JobDocument) -> Filter:
    """Match the job of *document*, if it still stands in the line in which it was read."""
    return {"_id": document["_id"], "line": document["line"]}


def stale(queue_id: str, status: JobStatus, until: datetime) -> Filter:
    """Match the jobs of a queue that have *status*, and expired (unfinished) or ended (complete) until an instant."""
    return {"queue_id": queue_id, "status": status.value, "stale_since": {"$gte": FIRST_INSTANT, "$lte": until}}


def still_stale(tracking_ids: Sequence[UUID], status: JobStatus, until: datetime) -> Filter:
    """Match those of some jobs that are still `stale`."""
    return {"_id": {"$in": tracking_ids}, "status": status.value, "stale_since": {"$lte": until}}


def lapsed_stale(tracking_ids: Sequence[UUID], now: datetime) -> Filter:
    """Match those of some running jobs that have expired and whose lease is over."""
    return {**still_stale(tracking_ids, JobStatus.RUNNING, now), "dequeue_after": {"$lte": now}}


def wanted_jobs(wanted: JobFilter, after: UUID | None = None) -> Filter:
    """Match the jobs that *wanted* asks for, those after a tracking id."""
    found: dict[str, object] = {}
    if after is not None:
        found["_id"] = {"$gt": after}
    if wanted.queue_ids is not None:
        found["queue_id"] = {"$in": sorted(filter(is_text, wanted.queue_ids))}
    if wanted.statuses is not None:
        found["status"] = {"$in": sorted(wanted.statuses)}
    if wanted.metadata:
        found["metadata"] = {"$all": [{"key": key, "value": value} for key, value in wanted.metadata.items()]}
    return found


def counting(wanted: JobFilter) -> Pipeline:
    """Count the jobs that *wanted* asks for, by queue and status."""
    by: Mapping[str, object] = {"queue_id": "$queue_id", "status": "$status"}
    return [{"$match": wanted_jobs(wanted)}, {"$group": {"_id": by, "jobs": {"$sum": 1}}}]


def changes(queue_ids: frozenset[str]) -> Pipeline:
    """Pass the changes on that are worth a notice. An update names no queue; whoever listens looks at its document."""
    stored = {"operationType": "insert", "fullDocument.queue_id": {"$in": sorted(filter(is_text, queue_ids))}}
    statuses = sorted(status.value for status in JobStatus if status is not JobStatus.RUNNING)
    updated = {"operationType": "update", "updateDescription.updatedFields.status": {"$in": statuses}}
    told = ["operationType", "documentKey", "fullDocument.queue_id", "updateDescription.updatedFields.status"]
    return [{"$match": {"$or": [stored, updated]}}, {"$project": dict.fromkeys(told, 1)}]


# What becomes of it.


def claimed(*, worker_id: str, lease_end: datetime, mark: ObjectId, lapses: int) -> Update:
    """Lease jobs; *lapses* is 1 for those whose lease lapsed, else 0."""
    return {
        "$set": {
            "status": JobStatus.RUNNING.value,
            "line": LEASED,
            "dequeue_after": lease_end,
            "worker_id": worker_id,
            "claim": mark,
        },
        "$inc": {"attempt": 1, "fence": 1, "lapses": lapses},
    }


def renewed(lease_end: datetime) -> Update:
    """Move the end of leases."""
    return {"$set": {"dequeue_after": lease_end}}


def reported(progress: StoredPayload) -> Update:
    """Keep progress."""
    return {"$set": {"progress": progress}}


def succeeded(result: StoredPayload | None, now: datetime) -> Update:
    """End jobs with success."""
    ended = _ended(JobStatus.SUCCEEDED, now)
    return {
        "$set": {**ended, "lapses": 0} if result is None else {**ended, "lapses": 0, "result": result},
        "$unset": {"line": "", "progress": ""},
    }


def succeeded_with(results: Mapping[UUID, StoredPayload], now: datetime) -> Pipeline:
    """
    End jobs with success, each with a result of its own, in one update.

    It is looked up by the job's id. MongoDB makes a table of a constant list that it searches, so that many results
    cost no more than one each; `$literal` keeps it from reading them as expressions.
    """
    position = {"$indexOfArray": [{"$literal": list(results)}, "$_id"]}
    result = {"$arrayElemAt": [{"$literal": list(results.values())}, position]}
    return [
        {"$set": {**_ended(JobStatus.SUCCEEDED, now), "lapses": 0, "result": result}},
        {"$unset": ["line", "progress"]},
    ]


def failed(error: StoredError, now: datetime) -> Pipeline:
    """End a job with failure."""
    return [
        {"$set": {**_ended(JobStatus.FAILED, now), "lapses": 0, "errors": _errors_and(error)}},
        {"$unset": ["line"]},
    ]


def ended(status: JobStatus, now: datetime) -> Update:
    """End jobs as cancelled or expired."""
    return {"$set": _ended(status, now), "$unset": {"line": ""}}


def retried(error: StoredError, at: datetime, mark: ObjectId) -> Pipeline:
    """Let a job wait until *at*. Its lapses are taken off its attempts."""
    return [
        {
            "$set": {
                "status": JobStatus.PENDING.value,
                "line": "$priority",
                "dequeue_after": at,
                "attempt": {"$subtract": [_count("$attempt"), _count("$lapses")]},
                "lapses": 0,
                "settled": {"mark": mark, "fence": "$fence"},
                "errors": _errors_and(error),
            }
        },
        {"$unset": ["worker_id"]},
    ]


def released(mark: ObjectId) -> Pipeline:
    """Give attempts back; the jobs keep their places."""
    return [
        {
            "$set": {
                "status": JobStatus.PENDING.value,
                "line": "$priority",
                "dequeue_after": "$execute_after",
                "attempt": {"$subtract": [_count("$attempt"), 1]},
                "settled": {"mark": mark, "fence": "$fence"},
            }
        },
        {"$unset": ["worker_id"]},
    ]


def requeued(*, now: datetime, expire_on: datetime | None) -> Pipeline:
    """Let a complete job begin again."""
    expires = {} if expire_on is None else {"expire_on": expire_on, "stale_since": expire_on}
    gone = ["worker_id", "progress", "result", "finished_at"]
    return [
        {
            "$set": {
                "status": JobStatus.PENDING.value,
                "line": "$priority",
                "execute_after": now,
                "dequeue_after": now,
                "attempt": 0,
                "lapses": 0,
                "fence": {"$add": ["$fence", 1]},
                **expires,
            }
        },
        {"$unset": gone if expires else [*gone, "expire_on", "stale_since"]},
    ]


def _errors_and(error: StoredError) -> Mapping[str, object]:
    """Append *error*. What is no list is another hand's, and no reason not to let the job end."""
    errors = {"$cond": [{"$isArray": "$errors"}, "$errors", []]}
    return {"$slice": [{"$concatArrays": [errors, [{"$literal": error}]]}, -KEPT_ERRORS]}


def _count(name: str) -> Mapping[str, object]:
    """Read the field *name*. What is no number is another hand's: it counts as the one attempt that is known of."""
    return {"$cond": [{"$isNumber": name}, name, 1]}


def _ended(status: JobStatus, now: datetime) -> dict[str, object]:
    return {"status": status.value, "finished_at": now, "stale_since": now}
