"""Documents: from a record to a document, from a document to a record. Field names stand here and in `_queries`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NotRequired, TypedDict, cast
from uuid import UUID

from bson import ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.int64 import Int64

from pannier import jsontext
from pannier.errors import UnstorableError
from pannier.errortext import StoredError, from_tree
from pannier.instants import round_down, round_up
from pannier.records import PRIORITIES, JobError, JobRecord, JobStatus, Json, Payload, StoredResult


class StoredPayload(TypedDict):
    """A payload: its encoding, and one of three forms, of which a person reads the first most easily."""

    encoding: str
    tree: NotRequired[Json]
    text: NotRequired[str]
    bytes: NotRequired[bytes]


class StoredEntry(TypedDict):
    """An entry of a job's metadata: a pair, since a field's name can't hold every key."""

    key: str
    value: str


class StoredMark(TypedDict):
    """Which settlement gave a job back."""

    mark: ObjectId
    fence: int


class JobDocument(TypedDict):
    """
    A job as it is stored: the fields of `JobRecord`, absent where they hold nothing, and four more.

    Attributes:
        line: Where an unfinished job stands: its priority, or `LEASED` while it runs. Absent from a complete one.
        stale_since: From when on a purge looks at it: `expire_on` while it is unfinished, then `finished_at`.
        claim: The mark of the claim that took it last.
        settled: The mark of the settlement that gave it back last, and under which fence.
    """

    _id: UUID
    queue_id: str
    command: StoredPayload
    execute_after: datetime
    expire_on: NotRequired[datetime]
    created_at: datetime
    priority: int
    idempotency_key: NotRequired[str]
    metadata: NotRequired[list[StoredEntry]]
    status: str
    attempt: int
    lapses: int
    fence: int
    dequeue_after: datetime
    worker_id: NotRequired[str]
    progress: NotRequired[StoredPayload]
    result: NotRequired[StoredPayload]
    errors: NotRequired[list[StoredError]]
    finished_at: NotRequired[datetime]
    line: NotRequired[int]
    stale_since: NotRequired[datetime]
    claim: NotRequired[ObjectId]
    settled: NotRequired[StoredMark]


class QueueDocument(TypedDict):
    """A queue: its name, and the priorities that its jobs have had."""

    _id: str
    priorities: list[int]


class SettlingDocument(TypedDict):
    """A job that a caller was about to settle in a transaction of his own, and when."""

    _id: UUID
    at: datetime


LEASED: Final = 101
"""The line of running jobs: before every priority, since lapsed leases go first."""

RESOLUTION: Final = timedelta(milliseconds=1)
"""The grid of BSON's dates."""

PAYLOAD_BYTES: Final = 7 * 1024 * 1024
"""The largest payload. A document holds 16 MiB, and a job two payloads at a time: its command and one more."""

TREE_CHARACTERS: Final = 64 * 1024
"""A larger tree is kept as text: nobody reads it in a shell, and BSON may take six times as much."""

TREE_DEPTH: Final = 60
"""A deeper tree is kept as text: MongoDB allows 100 levels for the whole document."""

TEXT_BYTES: Final = 16 * 1024
"""The longest key, worker id or encoding."""

METADATA_BYTES: Final = 1024 * 1024
"""The largest metadata, keys and values together."""

UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What reading a document raises that was damaged by another hand."""

_STATUSES: Final = {status.value: status for status in JobStatus}
_INT64: Final = range(-(2**63), 2**63)


class _PlainInt(TypeDecoder):
    """Gives an int where the driver has a type of its own for larger ones."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        return int(value)


CODEC: Final[CodecOptions[Mapping[str, object]]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    type_registry=TypeRegistry([_PlainInt()]),
    datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
)
"""
How documents travel: ids as UUIDs of BSON (subtype 4), dates as aware instants in UTC. A date of no year that a
datetime has is another hand's, and no reason to read nothing.
"""


def from_job(job: JobRecord) -> JobDocument:
    """
    Return the document of a new *job*.

    Raises:
        UnstorableError: A text or the command can't be held.
        ValueError: It starts after the year 9999.
    """
    tracking_id = job.tracking_id
    starts = round_up(job.execute_after, RESOLUTION)
    check_text(job.queue_id, "queue_id", tracking_id)
    document = JobDocument(
        _id=tracking_id,
        queue_id=job.queue_id,
        command=from_payload(job.command, tracking_id),
        status=JobStatus.PENDING.value,
        priority=job.priority,
        execute_after=starts,
        created_at=round_down(job.created_at, RESOLUTION),
        attempt=0,
        lapses=0,
        fence=0,
        line=job.priority,
        dequeue_after=starts,
    )
    if job.expire_on is not None:
        document["expire_on"] = document["stale_since"] = round_down(job.expire_on, RESOLUTION)
    if job.idempotency_key is not None:
        check_text(job.idempotency_key, "idempotency_key", tracking_id)
        document["idempotency_key"] = job.idempotency_key
    if job.metadata:
        document["metadata"] = _from_metadata(job)
    return document


def to_job(document: JobDocument) -> JobRecord:
    """
    Return the job that *document* holds.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: It was damaged by another hand.
    """
    progress, result = document.get("progress"), document.get("result")
    return JobRecord(
        tracking_id=document["_id"],
        queue_id=document["queue_id"],
        command=_payload(document["command"]),
        execute_after=document["execute_after"],
        expire_on=document.get("expire_on"),
        created_at=document["created_at"],
        dequeue_after=document["dequeue_after"],
        priority=document["priority"],
        idempotency_key=document.get("idempotency_key"),
        metadata={entry["key"]: entry["value"] for entry in document.get("metadata", ())},
        status=_STATUSES[document["status"]],
        attempt=document["attempt"],
        lapses=document["lapses"],
        fence=document["fence"],
        worker_id=document.get("worker_id"),
        progress=None if progress is None else _payload(progress),
        result=None if result is None else _payload(result),
        errors=_to_errors(document),
        finished_at=document.get("finished_at"),
    )


def to_result(document: JobDocument) -> StoredResult:
    """Return the job's status and values. Raises as `to_job`."""
    progress, result = document.get("progress"), document.get("result")
    return StoredResult(
        status=_STATUSES[document["status"]],
        progress=None if progress is None else _payload(progress),
        result=None if result is None else _payload(result),
        errors=_to_errors(document),
    )


def leased(document: JobDocument, *, worker_id: str, lease_end: datetime) -> JobDocument:
    """Return the pending *document* as `_queries.claimed` makes it."""
    return {
        **document,
        "status": JobStatus.RUNNING.value,
        "attempt": document["attempt"] + 1,
        "fence": document["fence"] + 1,
        "dequeue_after": lease_end,
        "worker_id": worker_id,
    }


def to_priorities(document: QueueDocument) -> Sequence[int]:
    """
    Return the priorities that the jobs of a queue have had; all that there are, where another hand has left no list.

    Then a claim looks at lines in which nothing ever stood, which costs time, and overlooks no job.
    """
    found: object = document.get("priorities")
    if not isinstance(found, list) or not all(type(each) is int and each in PRIORITIES for each in found):
        return PRIORITIES
    return sorted(set(found))


def is_claimable(document: JobDocument) -> bool:
    """Whether a claim can count on what it counts on, and write it: another hand may have left any type there."""
    expire_on = document.get("expire_on")
    status = JobStatus.RUNNING if document["line"] == LEASED else JobStatus.PENDING
    return (
        type(document["_id"]) is UUID
        and document.get("status") == status
        and (expire_on is None or isinstance(expire_on, datetime))
        and all(map(_can_rise, (document.get("attempt"), document.get("lapses"), document.get("fence"))))
    )


def _can_rise(count: object) -> bool:
    return type(count) is int and 0 <= count < _INT64[-1]


def from_payload(payload: Payload, tracking_id: UUID) -> StoredPayload:
    """
    Return *payload* as a sub-document. What BSON can't hold exactly is kept as JSON text.

    Raises:
        UnstorableError: It is too large, or can't be written.
    """
    encoding, data = payload.encoding, payload.data
    check_text(encoding, "encoding", tracking_id)
    if isinstance(data, bytes):
        _check_size(len(data), tracking_id)
        return {"encoding": encoding, "bytes": data}
    try:
        text = jsontext.dump(data)
    except ValueError as error:
        raise UnstorableError(tracking_id, str(error)) from error
    if len(text) <= TREE_CHARACTERS and _fits_bson(data):
        return {"encoding": encoding, "tree": data}
    _check_size(len(text) if text.isascii() else len(text.encode()), tracking_id)
    return {"encoding": encoding, "text": text}


def check_text(text: str, name: str, tracking_id: UUID | None) -> None:
    """
    Refuse a text that is no Unicode, or is too long.

    Raises:
        UnstorableError: It is one.
    """
    size = _size(text, name, tracking_id)
    if size > TEXT_BYTES:
        raise UnstorableError(tracking_id, f"its {name} has {size} bytes, at most {TEXT_BYTES} are kept; hash it")


def is_text(text: str) -> bool:
    """Whether BSON can hold *text*."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(text: str, name: str, tracking_id: UUID | None) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise UnstorableError(tracking_id, f"its {name} holds a lone surrogate, which UTF-8 can't hold") from None


def _check_size(size: int, tracking_id: UUID) -> None:
    if size > PAYLOAD_BYTES:
        raise UnstorableError(
            tracking_id,
            f"it has a payload of {size} bytes, more than {PAYLOAD_BYTES}; store it elsewhere, and queue where it is",
        )


def _from_metadata(job: JobRecord) -> list[StoredEntry]:
    size = sum(_size(text, "metadata", job.tracking_id) for entry in job.metadata.items() for text in entry)
    if size > METADATA_BYTES:
        raise UnstorableError(job.tracking_id, f"its metadata has {size} bytes, at most {METADATA_BYTES} are kept")
    return [{"key": key, "value": value} for key, value in job.metadata.items()]


def _fits_bson(data: Json) -> bool:
    """
    Whether BSON holds *data* exactly and any shell shows it as it is.

    Not so: integers beyond 64 bits, -0.0 (which an update may take for 0.0), lone surrogates, and keys that a query
    would read as a path or an operator.
    """
    level: Sequence[Json] = [data]
    for _ in range(TREE_DEPTH):
        below: list[Json] = []
        for node in level:
            if isinstance(node, dict):
                if not all(map(_is_plain_key, node)):
                    return False
                below += node.values()
            elif isinstance(node, list):
                below += node
            elif not _is_plain_leaf(node):
                return False
        if not below:
            return True
        level = below
    return False


def _is_plain_key(key: str) -> bool:
    return bool(key) and key[0] != "$" and "." not in key and "\0" not in key and is_text(key)


def _is_plain_leaf(leaf: bool | int | float | str | None) -> bool:  # noqa: FBT001  # a leaf of JSON, no switch
    if isinstance(leaf, str):
        return is_text(leaf)
    if isinstance(leaf, float):
        return leaf != 0 or str(leaf) == "0.0"
    return not isinstance(leaf, int) or leaf in _INT64


def _to_errors(document: JobDocument) -> tuple[JobError, ...]:
    return tuple(map(from_tree, cast("Iterable[StoredError]", document.get("errors", ()))))


def _payload(stored: StoredPayload) -> Payload:
    if "tree" in stored:
        return Payload(stored["tree"], stored["encoding"])
    if "text" in stored:
        return Payload(jsontext.load(stored["text"]), stored["encoding"])
    return Payload(stored["bytes"], stored["encoding"])
