"""Rows: the only place that spells columns. From a record to a row, from a row to a record."""

from collections.abc import Sequence
from typing import Final, TypeAlias, TypedDict, cast
from uuid import UUID

from pannier import jsontext
from pannier.errors import UnstorableError
from pannier.instants import from_microseconds, to_microseconds
from pannier.records import JobError, JobRecord, JobStatus, Json, Payload, StoredResult

Value: TypeAlias = int | str | bytes | None
Row: TypeAlias = Sequence[Value]

RecordRow: TypeAlias = tuple[
    str, str, str | bytes, str, int, int | None, int, int, int, str | None, str | None, str, int, int, int, str | None,
    str | bytes | None, str, str | bytes | None, str, str | None, int | None,
]  # fmt: skip
"""The types of `RECORD`, which the STRICT table holds every hand to; what the texts hold it does not."""

RECORD: Final = (
    "tracking_id, queue_id, command, command_encoding, execute_after, expire_on, created_at, dequeue_after, priority, "
    "idempotency_key, metadata, status, attempt, lapses, fence, worker_id, progress, progress_encoding, result, "
    "result_encoding, errors, finished_at"
)
"""The columns of a whole job, in the order in which `to_job` reads them."""

CLAIMED: Final = (
    RECORD.replace("status,", "'running',")
    .replace("attempt,", "attempt + 1,")
    .replace("lapses,", "lapses + (status = 'running'),")
    .replace("fence,", "fence + 1,")
    .replace("worker_id,", ":worker_id,")
    .replace("dequeue_after,", ":lease_end,")
)
"""The same columns as they will be when sql/claim_jobs.sql has run."""

_STATUSES: Final = {status.value: status for status in JobStatus}


def from_job(job: JobRecord) -> tuple[Value, ...]:
    """
    Return the row of a new *job*, in the order of sql/store_job.sql.

    Raises:
        UnstorableError: A text or the command can't be held.
    """
    starts = to_microseconds(job.execute_after)
    command, encoding = from_payload(job.command, job.tracking_id)
    for name, text in (("queue_id", job.queue_id), ("idempotency_key", job.idempotency_key), ("encoding", encoding)):
        check_text(text, name, job.tracking_id)
    return (
        str(job.tracking_id),
        job.queue_id,
        job.priority,
        starts,
        starts,
        None if job.expire_on is None else to_microseconds(job.expire_on),
        to_microseconds(job.created_at),
        job.idempotency_key,
        command,
        encoding,
        jsontext.dump(dict(job.metadata)) if job.metadata else None,
    )


def to_job(row: Row) -> JobRecord:
    """
    Return the job that *row* holds.

    Raises:
        ValueError, TypeError, KeyError: It was damaged by another hand.
    """
    (
        tracking_id, queue_id, command, command_encoding, execute_after, expire_on, created_at, dequeue_after, priority,
        key, metadata, status, attempt, lapses, fence, worker_id, progress, progress_encoding, result, result_encoding,
        errors, finished_at,
    ) = cast("RecordRow", row)  # fmt: skip
    return JobRecord(
        tracking_id=to_id(tracking_id),
        queue_id=queue_id,
        command=_payload(command, command_encoding),
        execute_after=from_microseconds(execute_after),
        expire_on=None if expire_on is None else from_microseconds(expire_on),
        created_at=from_microseconds(created_at),
        dequeue_after=from_microseconds(dequeue_after),
        priority=priority,
        idempotency_key=key,
        metadata={} if metadata is None else cast("dict[str, str]", jsontext.load(metadata)),
        status=_STATUSES[status],
        attempt=attempt,
        lapses=lapses,
        fence=fence,
        worker_id=worker_id,
        progress=None if progress is None else _payload(progress, progress_encoding),
        result=None if result is None else _payload(result, result_encoding),
        errors=() if errors is None else to_errors(errors),
        finished_at=None if finished_at is None else from_microseconds(finished_at),
    )


def to_result(row: Row) -> StoredResult:
    """Return what sql/get_job_result.sql has read. Raises as `to_job`."""
    status, progress, progress_encoding, result, result_encoding, errors = cast(
        "tuple[str, str | bytes | None, str, str | bytes | None, str, str | None]", row
    )
    return StoredResult(
        status=_STATUSES[status],
        progress=None if progress is None else _payload(progress, progress_encoding),
        result=None if result is None else _payload(result, result_encoding),
        errors=() if errors is None else to_errors(errors),
    )


def to_id(text: Value) -> UUID:
    """Return the UUID that *text* spells; a third of the time that UUID(text) takes."""
    return UUID(int=int(str(text).replace("-", ""), 16))


def from_payload(payload: Payload, tracking_id: UUID) -> tuple[str | bytes, str]:
    """
    Return *payload* as its two columns: JSON text that a person can read, or bytes as they are; and its encoding.

    Raises:
        UnstorableError: Its tree can't be written.
    """
    if isinstance(payload.data, bytes):
        return payload.data, payload.encoding
    try:
        return jsontext.dump(payload.data), payload.encoding
    except ValueError as error:
        raise UnstorableError(tracking_id, str(error)) from error


def check_text(text: str | None, name: str, tracking_id: UUID | None) -> None:
    """
    Refuse a text that is no Unicode: SQLite keeps UTF-8, which has no form for a lone surrogate.

    Raises:
        UnstorableError: It holds one.
    """
    if text is None or text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnstorableError(tracking_id, f"its {name} holds a lone surrogate, which UTF-8 can't hold") from None


def from_errors(errors: Sequence[JobError]) -> str:
    """Return *errors* as JSON text."""
    stored: Json = [
        {
            "attempt": error.attempt,
            "at": to_microseconds(error.at),
            "kind": error.kind,
            "message": error.message,
            "traceback": error.traceback,
        }
        for error in errors
    ]
    return jsontext.dump(stored)


class _StoredError(TypedDict):
    attempt: int
    at: int
    kind: str
    message: str
    traceback: str


def to_errors(text: str | bytes) -> tuple[JobError, ...]:
    """Return the errors that *text* holds. Raises as `to_job`."""
    stored = cast("list[_StoredError]", jsontext.load(text if isinstance(text, str) else text.decode()))
    return tuple(
        JobError(
            attempt=error["attempt"],
            at=from_microseconds(error["at"]),
            kind=error["kind"],
            message=error["message"],
            traceback=error["traceback"],
        )
        for error in stored
    )


def _payload(data: str | bytes, encoding: str) -> Payload:
    return Payload(data if isinstance(data, bytes) else jsontext.load(data), encoding)
