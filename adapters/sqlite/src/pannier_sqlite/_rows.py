"""Rows: the only place that spells columns. From a record to a row, from a row to a record."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias, cast, final
from uuid import UUID

from pannier import jsontext
from pannier.checks import plain_metadata
from pannier.errors import StorageRefusedError, UnstorableError
from pannier.errortext import load_errors
from pannier.instants import from_microseconds, to_microseconds
from pannier.records import JobError, JobRecord, JobStatus, Json, Payload, StoredResult
from pannier.restoring import restore_id, restore_job, restore_payload

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
    "seq, dequeue_after, expire_on, tracking_id, queue_id, min(fence, 9223372036854775806) + 1, command, "
    "command_encoding, execute_after, created_at, priority, idempotency_key, metadata, "
    "min(attempt, 9223372036854775806) + 1, min(lapses, 9223372036854775806) + (status = 'running'), progress, "
    "progress_encoding, errors"
)
"""
What a claim reads of a job that is not complete, as it will be when sql/claim_jobs.sql has run, in the order in which
`to_claimed_job` reads it. What it knows already is left out: a quarter of the columns.
"""

ClaimedRow: TypeAlias = tuple[
    int, int, int | None, str, str, int, str | bytes, str, int,
    int, int, str | None, str | None, int, int, str | bytes | None,
    str, str | None,
]  # fmt: skip

ALIKE: Final = 50
"""How many jobs sql/store_alike_jobs.sql stores: 2.4 us each, as with 200; by 20 they take 2.6."""

PAIRS: Final = ", ".join(["(?, ?)"] * ALIKE)
"""The parameters of what `from_own` returns of each."""

MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""The largest payload in bytes. A row of SQLite holds 10^9: three payloads, metadata and errors fit into that."""

MAX_FENCE: Final = 2**63 - 1
"""The largest number that SQLite holds; no fence comes near it."""

UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What reading a row raises that was damaged by another hand."""

_STATUSES: Final = {status.value: status for status in JobStatus}
_JSON_COLUMNS: Final = ("command", "progress", "result")
_COLUMN: Final = {name: index for index, name in enumerate(RECORD.split(", "))}


@final
class Undecodable(str):
    """A text of the file that is no UTF-8, its bytes escaped as lone surrogates."""

    __slots__ = ()


def decode(raw: bytes) -> str:
    """Decode a TEXT value whatever it holds: a connection's `text_factory` where damaged rows are expected."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Undecodable(raw.decode("utf-8", "surrogateescape"))


def from_job(job: JobRecord) -> tuple[Value, ...]:
    """
    Return the row of a new *job*, in the order of sql/store_job.sql.

    Raises:
        UnstorableError: A text or the command can't be held.
    """
    return (*from_own(job), *from_common(job))


def from_own(job: JobRecord) -> tuple[str, str | bytes]:
    """Return the columns that no two jobs have in common: the id and the command. Raises as `from_job`."""
    return from_id(job.tracking_id), _from_data(job.command, job.tracking_id)


def common_of(job: JobRecord) -> tuple[object, ...]:
    """Return what `from_common` is made of. Jobs of which it is equal have those columns in common."""
    return (
        job.execute_after, job.expire_on, job.created_at, job.queue_id, job.priority, job.idempotency_key,
        job.command.encoding, job.metadata,
    )  # fmt: skip


def from_common(job: JobRecord) -> tuple[Value, ...]:
    """Return the columns that all jobs of a batch may have in common, in the order of sql/. Raises as `from_job`."""
    starts = to_microseconds(job.execute_after)
    check_text(job.command.encoding, "encoding", job.tracking_id)
    check_text(job.queue_id, "queue_id", job.tracking_id)
    if job.idempotency_key is not None:
        check_text(job.idempotency_key, "idempotency_key", job.tracking_id)
    return (
        job.queue_id,
        job.priority,
        starts,
        starts,
        None if job.expire_on is None else to_microseconds(job.expire_on),
        starts if job.created_at is job.execute_after else to_microseconds(job.created_at),
        job.idempotency_key,
        job.command.encoding,
        _from_metadata(job) if job.metadata else None,
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
    return restore_job(  # the table's constraints have checked the rest
        {
            "tracking_id": to_id(tracking_id),
            "queue_id": queue_id,
            "command": _payload(command, command_encoding),
            "execute_after": from_microseconds(execute_after),
            "expire_on": None if expire_on is None else from_microseconds(expire_on),
            "created_at": from_microseconds(created_at),
            "priority": priority,
            "idempotency_key": key,
            "metadata": {} if metadata is None else plain_metadata(_load(metadata)),
            "status": _STATUSES[status],
            "attempt": attempt,
            "lapses": lapses,
            "fence": fence,
            "dequeue_after": from_microseconds(dequeue_after),
            "worker_id": worker_id,
            "progress": None if progress is None else _payload(progress, progress_encoding),
            "result": None if result is None else _payload(result, result_encoding),
            "errors": () if errors is None else to_errors(errors),
            "finished_at": None if finished_at is None else from_microseconds(finished_at),
        }
    )


def to_claimed_job(row: ClaimedRow, *, worker_id: str, ends_at: datetime) -> JobRecord:
    """
    Return the job that *row* holds, leased to *worker_id* until *ends_at*. Raises as `to_job`.

    2.6 us: every job passes through here, and a tenth of what it costs is spent.
    """
    (
        _, _, expire_on, tracking_id, queue_id, fence, command, command_encoding, execute_after, created_at, priority,
        key, metadata, attempt, lapses, progress, progress_encoding, errors,
    ) = row  # fmt: skip
    starts = from_microseconds(execute_after)
    return restore_job(  # the table's constraints have checked the rest
        {
            "tracking_id": to_id(tracking_id),
            "queue_id": queue_id,
            "command": _payload(command, command_encoding),
            "execute_after": starts,
            "expire_on": None if expire_on is None else from_microseconds(expire_on),
            "created_at": starts if created_at == execute_after else from_microseconds(created_at),
            "priority": priority,
            "idempotency_key": key,
            "metadata": {} if metadata is None else plain_metadata(_load(metadata)),
            "status": JobStatus.RUNNING,
            "attempt": attempt,
            "lapses": lapses,
            "fence": fence,
            "dequeue_after": ends_at,
            "worker_id": worker_id,
            "progress": None if progress is None else _payload(progress, progress_encoding),
            "result": None,
            "errors": () if errors is None else to_errors(errors),
            "finished_at": None,
        }
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


def to_shown_job(row: Row) -> JobRecord:
    """
    Return the job that *row* holds, for people: what can't be read is shown as it is stored.

    A damaged payload comes as bytes in the encoding "unreadable ..."; damaged metadata or errors are left out.

    Raises:
        StorageRefusedError: Nothing can be made of it.
    """
    try:
        return to_job(row)
    except UNREADABLE:
        pass
    try:
        return to_job(_shown(row))
    except UNREADABLE as error:
        raise StorageRefusedError(f"what is stored of job {row[0]!r} can't be read: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Say what *error*, one of `UNREADABLE`, says, without what is stored."""
    return f"{type(error).__name__}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"


def from_id(tracking_id: UUID) -> str:
    """Return what `str` returns, in a third of the time."""
    spelt = tracking_id.hex
    return f"{spelt[:8]}-{spelt[8:12]}-{spelt[12:16]}-{spelt[16:20]}-{spelt[20:]}"


def to_id(text: str) -> UUID:
    """Return the UUID that *text* spells; a quarter of the time that UUID(text) takes."""
    return restore_id(int(text.replace("-", ""), 16))


def from_payload(payload: Payload, tracking_id: UUID) -> tuple[str | bytes, str]:
    """
    Return *payload* as its two columns: JSON text that a person can read, or bytes as they are; and its encoding.

    Raises:
        UnstorableError: Its tree can't be written, or is too large.
    """
    check_text(payload.encoding, "encoding", tracking_id)
    return _from_data(payload, tracking_id), payload.encoding


def _from_data(payload: Payload, tracking_id: UUID) -> str | bytes:
    if isinstance(payload.data, bytes):
        _check_size(payload.data, "payload", tracking_id)
        return payload.data
    try:
        text = jsontext.dump(payload.data)
    except ValueError as error:
        raise UnstorableError(tracking_id, str(error)) from error
    _check_size(text, "payload", tracking_id)
    return text


def check_text(text: str, name: str, tracking_id: UUID | None) -> None:
    """
    Refuse a text that is no Unicode, or is too large: SQLite keeps UTF-8, which has no form for a lone surrogate.

    Raises:
        UnstorableError: It is one.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnstorableError(tracking_id, f"its {name} holds a lone surrogate, which UTF-8 can't hold") from None
    _check_size(text, name, tracking_id)


def _check_size(data: str | bytes, name: str, tracking_id: UUID | None) -> None:
    if len(data) * 4 <= MAX_PAYLOAD:  # no character takes more than four bytes
        return
    size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
    if size > MAX_PAYLOAD:
        raise UnstorableError(tracking_id, f"its {name} has {size} bytes, at most {MAX_PAYLOAD} are kept")


def _from_metadata(job: JobRecord) -> str:
    try:
        text = jsontext.dump(dict(job.metadata))
    except ValueError as error:
        raise UnstorableError(job.tracking_id, f"of its metadata, {error}") from error
    _check_size(text, "metadata", job.tracking_id)
    return text


def to_errors(text: str | bytes) -> tuple[JobError, ...]:
    """Return the errors that *text* holds. Raises as `to_job`."""
    return load_errors(_checked(text if isinstance(text, str) else text.decode()))


def _payload(data: str | bytes, encoding: str) -> Payload:
    if not encoding:
        raise ValueError("it has no encoding")
    if type(data) is str:  # and so decodable: 0.1 us less for the payload that every job has
        return restore_payload(jsontext.load(data), encoding)
    return restore_payload(data if isinstance(data, bytes) else _load(data), encoding)


def _load(text: str) -> Json:
    return jsontext.load(_checked(text))


def _checked(text: str) -> str:
    if isinstance(text, Undecodable):
        raise ValueError("it is no UTF-8")  # noqa: TRY004  # the type stands for a fault of the value
    return text


def _shown(row: Row) -> Row:
    """Return *row* with what can't be read replaced."""
    shown = list(row)
    for name in _JSON_COLUMNS:
        data, encoding = shown[_COLUMN[name]], shown[_COLUMN[f"{name}_encoding"]]
        if isinstance(data, str) and not _is_json(data):
            shown[_COLUMN[name]] = data.encode("utf-8", "surrogateescape")
            shown[_COLUMN[f"{name}_encoding"]] = f"unreadable {encoding!s}"
    for name in ("metadata", "errors"):
        text = shown[_COLUMN[name]]
        if isinstance(text, str) and not _is_json(text):
            shown[_COLUMN[name]] = None
    return shown


def _is_json(text: str) -> bool:
    try:
        _load(text)
    except ValueError:
        return False
    return True
