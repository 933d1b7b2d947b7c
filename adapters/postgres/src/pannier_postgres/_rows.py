"""Rows: the only place that spells columns. From a record to a row, from a row to a record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias, cast
from uuid import UUID

from pannier import jsontext
from pannier.checks import plain_metadata
from pannier.errors import UnstorableError
from pannier.errortext import load_errors
from pannier.records import JobRecord, JobStatus, Payload, StoredResult
from pannier.restoring import restore_job, restore_payload

Row: TypeAlias = Iterable[object]


class NewRow(NamedTuple):
    """A new job: the parameters of sql/store_jobs.sql, in their order."""

    tracking_id: UUID
    queue_id: str
    priority: int
    execute_after: datetime
    expire_on: datetime | None
    created_at: datetime
    key: str | None
    metadata: str
    encoding: str
    text: str | None
    data: bytes | None

    @property
    def weight(self) -> int:
        """How many characters or bytes its payload has."""
        return len(self.text or self.data or "")


RecordRow: TypeAlias = tuple[
    UUID, str, str | None, bytes | None, str, datetime, datetime | None, datetime, datetime, int, str | None, str, str,
    int, int, int, str | None, str | None, bytes | None, str | None, str | None, bytes | None, str | None, str | None,
    datetime | None,
]  # fmt: skip
"""The types of "record" below, which the table holds every hand to; what the texts hold it does not."""

ClaimedRow: TypeAlias = tuple[
    int, datetime | None, UUID, str, str | None, bytes | None, str, datetime, datetime | None, datetime, int,
    str | None, str, int, int, int, str | None, bytes | None, str | None, str | None,
]  # fmt: skip
"""The types of what a claim answers for each job: two values of the claim itself, then "claimed" below."""

LISTS: Final[Mapping[str, str]] = {
    "new": (
        "tracking_id, queue_id, priority, execute_after, expire_on, created_at, idempotency_key, metadata, "
        "command_encoding, command, command_bytes"
    ),
    "record": (
        "tracking_id, queue_id, command, command_bytes, command_encoding, execute_after, expire_on, created_at, "
        "dequeue_after, priority, idempotency_key, metadata, status, attempt, lapses, fence, worker_id, progress, "
        "progress_bytes, progress_encoding, result, result_bytes, result_encoding, errors, finished_at"
    ),
    "claimed": (
        "tracking_id, queue_id, command, command_bytes, command_encoding, execute_after, expire_on, created_at, "
        "priority, idempotency_key, metadata, attempt, lapses, fence, progress, progress_bytes, progress_encoding, "
        "errors"
    ),
    "result": "status, progress, progress_bytes, progress_encoding, result, result_bytes, result_encoding, errors",
}
"""The lists of columns that the statements name in braces."""

PAYLOAD_BYTES: Final = 16 * 1024 * 1024
"""The largest payload. PostgreSQL would hold 1 GB, but no queue is served by it."""

KEY_BYTES: Final = 1024
"""The longest idempotency key: with the longest queue id it fits an entry of a B-tree, 2,704 bytes."""

_STATUSES: Final = {status.value: status for status in JobStatus}


def from_job(job: JobRecord) -> NewRow:
    """
    Return the row of a new *job*.

    Raises:
        UnstorableError: A text or the command can't be held.
    """
    tracking_id, key = job.tracking_id, job.idempotency_key
    check_text(job.queue_id, "queue_id", tracking_id)
    if key is not None:
        check_text(key, "idempotency_key", tracking_id)
        if len(key) > KEY_BYTES or len(key.encode()) > KEY_BYTES:
            raise UnstorableError(tracking_id, f"its idempotency_key has more than {KEY_BYTES} bytes; hash it")
    return NewRow(
        tracking_id,
        job.queue_id,
        job.priority,
        job.execute_after,
        job.expire_on,
        job.created_at,
        key,
        from_metadata(job.metadata, tracking_id) if job.metadata else "{}",
        *from_payload(job.command, tracking_id),
    )


def columns_of(rows: Sequence[tuple[object, ...]]) -> Iterator[list[object]]:
    """
    Return the columns of *rows*, as arrays for unnest().

    One that is NULL in all rows is sent empty, since unnest() fills short columns up with NULLs: the driver looks at
    each value of an array, twice at a NULL, to see that it is no array. 1 of 11 us a job that is stored without a key.
    """
    for column in zip(*rows, strict=True):
        yield [] if column.count(None) == len(column) else list(column)


def shared_columns_of(rows: Sequence[tuple[object, ...]]) -> Iterator[Sequence[object]]:
    """
    Return the columns of *rows* as `columns_of` does, but of one value where all rows have that; the first one whole.

    Jobs that succeed together mostly have their fence and the encoding of their results in common: settling 200 takes
    this process 3.4 us a job, and 4.2 with whole columns, whose every value the driver looks at. The first column says
    how many rows there are, also where they are several leases of one job.
    """
    first, *others = columns_of(rows)
    yield first
    for column in others:
        yield column[:1] if column and _is_constant(column) else column


def similar_of(rows: Sequence[NewRow]) -> tuple[object, ...] | None:
    """
    Return the parameters of sql/store_similar_jobs.sql for *rows*, or None where it takes no such rows.

    Most jobs that are queued together are of one kind, and those of a batch due at one instant. What they have in
    common goes to the server once: 7.2 us a job of a thousand, driver and server together, where whole rows take 12;
    43 of ten where they take 48.
    """
    (
        ids, queue_ids, priorities, execute_after, expire_on, created_at, keys, metadata, encodings, texts, data,
    ) = zip(*rows, strict=True)  # fmt: skip
    common = (queue_ids, priorities, metadata, encodings)
    if not (all(map(_is_constant, common)) and keys.count(None) == data.count(None) == len(rows)):
        return None
    instants = (execute_after, expire_on, created_at)
    return (
        ids,
        texts,
        *(column[0] for column in common),
        *(column[:1] if _is_constant(column) else column for column in instants),
    )


def _is_constant(column: Sequence[object]) -> bool:
    return column[-1] == column[0] and column.count(column[0]) == len(column)


def from_payload(payload: Payload, tracking_id: UUID) -> tuple[str, str | None, bytes | None]:
    """
    Return *payload* as its three columns: the encoding, and either JSON text or bytes.

    Raises:
        UnstorableError: It is too large, or can't be written.
    """
    data, encoding = payload.data, payload.encoding
    if encoding != "json":  # which nearly all are
        check_text(encoding, "encoding", tracking_id)
    if isinstance(data, bytes):
        if len(data) > PAYLOAD_BYTES:
            raise UnstorableError(tracking_id, _too_large(len(data)))
        return encoding, None, data
    try:
        text = jsontext.dump(data)
    except ValueError as error:
        raise UnstorableError(tracking_id, str(error)) from error
    if len(text) > PAYLOAD_BYTES // 4 and (size := len(text.encode())) > PAYLOAD_BYTES:
        raise UnstorableError(tracking_id, _too_large(size))
    return encoding, text, None


def from_metadata(metadata: Mapping[str, str], tracking_id: UUID | None) -> str:
    """
    Return *metadata* as JSON text.

    Raises:
        UnstorableError: It holds what JSONB can't.
    """
    for key, value in metadata.items():
        check_text(key, "metadata", tracking_id)
        check_text(value, "metadata", tracking_id)
    return jsontext.dump(dict(metadata))


def check_text(text: str, name: str, tracking_id: UUID | None) -> None:
    """
    Refuse what text of PostgreSQL can't hold: NUL, and lone surrogates.

    Raises:
        UnstorableError: It holds one.
    """
    if not is_text(text):
        raise UnstorableError(tracking_id, f"its {name} holds a NUL or a lone surrogate, which text can't hold here")


def is_text(text: str) -> bool:
    """Whether text of PostgreSQL can hold *text*."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def to_job(row: Row) -> JobRecord:
    """
    Return the job that *row* holds.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: It was damaged by another hand.
    """
    (
        tracking_id, queue_id, command, command_bytes, command_encoding, execute_after, expire_on, created_at,
        dequeue_after, priority, key, metadata, status, attempt, lapses, fence, worker_id, progress, progress_bytes,
        progress_encoding, result, result_bytes, result_encoding, errors, finished_at,
    ) = cast("RecordRow", row)  # fmt: skip
    return restore_job(  # the table's constraints have checked the rest
        {
            "tracking_id": tracking_id,
            "queue_id": queue_id,
            "command": _payload(command, command_bytes, command_encoding),
            "execute_after": execute_after,
            "expire_on": expire_on,
            "created_at": created_at,
            "priority": priority,
            "idempotency_key": key,
            "metadata": {} if metadata == "{}" else plain_metadata(jsontext.load(metadata)),
            "status": _STATUSES[status],
            "attempt": attempt,
            "lapses": lapses,
            "fence": fence,
            "dequeue_after": dequeue_after,
            "worker_id": worker_id,
            "progress": None if progress_encoding is None else _payload(progress, progress_bytes, progress_encoding),
            "result": None if result_encoding is None else _payload(result, result_bytes, result_encoding),
            "errors": () if errors is None else load_errors(errors),
            "finished_at": finished_at,
        }
    )


def to_claimed_job(row: Row, *, worker_id: str, lease_end: datetime) -> JobRecord:
    """
    Return the job that a claim has just leased. Raises as `to_job`.

    What all of a claim have in common is not read: every job passes through here.
    """
    (
        _, _, tracking_id, queue_id, command, command_bytes, command_encoding, execute_after, expire_on, created_at,
        priority, key, metadata, attempt, lapses, fence, progress, progress_bytes, progress_encoding, errors,
    ) = cast("ClaimedRow", row)  # fmt: skip
    return restore_job(
        {
            "tracking_id": tracking_id,
            "queue_id": queue_id,
            "command": _payload(command, command_bytes, command_encoding),
            "execute_after": execute_after,
            "expire_on": expire_on,
            "created_at": created_at,
            "priority": priority,
            "idempotency_key": key,
            "metadata": {} if metadata == "{}" else plain_metadata(jsontext.load(metadata)),
            "status": JobStatus.RUNNING,
            "attempt": attempt,
            "lapses": lapses,
            "fence": fence,
            "dequeue_after": lease_end,
            "worker_id": worker_id,
            "progress": None if progress_encoding is None else _payload(progress, progress_bytes, progress_encoding),
            "result": None,
            "errors": () if errors is None else load_errors(errors),
            "finished_at": None,
        }
    )


def to_result(row: Row) -> StoredResult:
    """Return what sql/get_job_result.sql has read. Raises as `to_job`."""
    status, progress, progress_bytes, progress_encoding, result, result_bytes, result_encoding, errors = cast(
        "tuple[str, str | None, bytes | None, str | None, str | None, bytes | None, str | None, str | None]", row
    )
    return StoredResult(
        status=_STATUSES[status],
        progress=None if progress_encoding is None else _payload(progress, progress_bytes, progress_encoding),
        result=None if result_encoding is None else _payload(result, result_bytes, result_encoding),
        errors=() if errors is None else load_errors(errors),
    )


def _payload(text: str | None, data: bytes | None, encoding: str) -> Payload:
    return restore_payload(jsontext.load(text) if text is not None else data or b"", encoding)


def _too_large(size: int) -> str:
    return f"it has a payload of {size} bytes, more than {PAYLOAD_BYTES}; store it elsewhere, and queue where it is"
