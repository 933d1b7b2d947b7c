"""
The job as it is stored, and what it is made of.

The values that cross the seam between pannier and a storage stand here, in `claims`, `settlements`, `purging`,
`inspection` and `notices`. All are frozen and validate themselves when made (level V of the rules: R13, R80, R106), so
that neither the engine nor a storage checks them again. All datetimes are aware, and in UTC once made.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast
from uuid import UUID

from attrs import Factory, evolve, field, frozen

from pannier.checks import check_json, plain_metadata, require, require_int, require_text
from pannier.commands import Command, set_tracking_id
from pannier.instants import utc

if TYPE_CHECKING:
    from pannier.codec import Codec

C = TypeVar("C", bound=Command[object])
T = TypeVar("T")

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

PRIORITIES: Final = range(-100, 101)
"""Every priority, lowest first. Higher ones are claimed first (R26)."""

KEPT_ERRORS: Final = 10
"""How many of a job's errors are kept, the latest ones (R54)."""

QUEUE_ID_CHARACTERS: Final = 255
NO_METADATA: Final[Mapping[str, str]] = {}

MESSAGE_BYTES: Final = 4 * 1024
TRACEBACK_BYTES: Final = 16 * 1024


class JobStatus(StrEnum):
    """Where a job is in its life. The arrows between the states are the functions of `pannier.transitions`."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_complete(self) -> bool:
        """Whether nothing but a requeue or a purge can touch the job any more."""
        return self in COMPLETE


COMPLETE: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})
"""The statuses that end a job."""


class Cancellation(StrEnum):
    """What became of a request to cancel (R60-R63)."""

    CANCELLED = "cancelled"
    ALREADY_COMPLETE = "already_complete"
    NOT_FOUND = "not_found"


@frozen
class Payload:
    """
    A command, result or progress as a codec wrote it: a JSON tree or bytes, and the name of the encoding.

    `Payload(None)` is a value; `None` where a `Payload` may stand means that there is no value (R68).

    Attributes:
        data: A tree of None, bool, int, finite float, str, list and dict with str keys, or bytes.
        encoding: What the codec chain wrote, such as "json", "json+v2" or "json+zstd+aes:k3".

    Raises:
        TypeError: *data* is no such tree. ValueError: it holds a NaN or an infinity (R104).
    """

    data: Json | bytes
    encoding: str = "json"

    def __attrs_post_init__(self) -> None:
        if type(self.encoding) is not str or not self.encoding:
            raise TypeError(f"encoding must be a non-empty str, not {self.encoding!r}")
        if type(self.data) is not bytes:
            check_json(self.data)


@frozen
class Lease:
    """
    The right to write one attempt of a job: its tracking id and the fencing token of the claim that gave it.

    Attributes:
        tracking_id: The job.
        fence: At least 1. Every claim and every requeue of the job raises it; 0 is "never claimed", never a lease.
    """

    tracking_id: UUID
    fence: int

    def __attrs_post_init__(self) -> None:
        if type(self.tracking_id) is not UUID or type(self.fence) is not int or self.fence < 1:
            require(self.tracking_id, UUID, "tracking_id")
            require_int(self.fence, "fence", minimum=1)


@frozen(kw_only=True)
class JobError:
    """
    How one attempt failed. Texts are made storable: NUL and lone surrogates are escaped, what is too long is cut (R54).

    Attributes:
        attempt: The number of the attempt, from 1.
        at: When it failed.
        kind: The qualified name of the exception's type. Never used to look a class up.
        message: At most 4 KiB of UTF-8.
        traceback: At most 16 KiB of UTF-8; its end is kept, since the fault stands there.
    """

    attempt: int
    at: datetime
    kind: str
    message: str
    traceback: str = ""

    def __attrs_post_init__(self) -> None:
        require_int(self.attempt, "attempt")
        for name in ("kind", "message", "traceback"):
            require(getattr(self, name), str, name)
        object.__setattr__(self, "at", utc(self.at, "at"))
        object.__setattr__(self, "kind", _cut_end(_escape(self.kind), MESSAGE_BYTES))
        object.__setattr__(self, "message", _cut_end(_escape(self.message), MESSAGE_BYTES))
        object.__setattr__(self, "traceback", _cut_start(_escape(self.traceback), TRACEBACK_BYTES))


# No slots: a transition copies the record's __dict__, 1.0 us, where 19 fields through __init__ and its checks take 3.
@frozen(kw_only=True, slots=False)
class JobRecord:
    """
    One job, as it is stored. The caller sets the first nine fields; the rest is written by storages only.

    Attributes:
        tracking_id: Names the job for ever; chosen by the caller.
        queue_id: The stable name of the command's queue, 1 to 255 characters.
        command: The encoded command.
        execute_after: When the job may start first. Only a requeue changes it.
        expire_on: From this instant on it is never started (half-open); None: never expires.
        created_at: When it was made. Nothing is decided by it.
        priority: -100 to 100, higher first.
        idempotency_key: At most one job of the queue has this key; blank is the same as None (R13).
        metadata: What the application keeps beside the job: tenant, trace, tags.
        status: See `JobStatus`.
        attempt: +1 at each claim; Release gives it back, Retry takes `lapses` off it, a requeue sets it to 0.
        lapses: Claims in a row whose lease lapsed; kept by Release, 0 after any other settlement.
        fence: +1 at each claim and each requeue; never lowered.
        dequeue_after: The one instant that decides when the job may be claimed: `execute_after` of a new job, the end
            of the lease of a running one, the retry time of a failed attempt.
        worker_id: Who claimed it last; None while it waits.
        progress: What the handler reported last; cleared by success and requeue.
        result: Set only with SUCCEEDED.
        errors: The last 10, oldest first.
        finished_at: Set if and only if the job is complete.
    """

    tracking_id: UUID
    queue_id: str
    command: Payload
    execute_after: datetime
    expire_on: datetime | None
    created_at: datetime
    priority: int = 0
    idempotency_key: str | None = None
    metadata: Mapping[str, str] = field(default=NO_METADATA, converter=plain_metadata)
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    lapses: int = 0
    fence: int = 0
    dequeue_after: datetime = field(default=Factory(lambda job: job.execute_after, takes_self=True))
    worker_id: str | None = None
    progress: Payload | None = None
    result: Payload | None = None
    errors: tuple[JobError, ...] = ()
    finished_at: datetime | None = None

    def __attrs_post_init__(self) -> None:
        if not _is_plain(self):
            _normalise(self)

    @property
    def lease(self) -> Lease:
        """The lease of the claim that returned this record. Only meaningful while it is RUNNING."""
        return Lease(self.tracking_id, self.fence)

    @property
    def is_complete(self) -> bool:
        """Whether the job has ended (`finished_at` is set)."""
        return self.finished_at is not None

    def get_command(self, command: type[C], codec: "Codec") -> C:
        """
        Return the command itself, a *command*, as *codec* reads it: `job.get_command(Resize, jobs.codec)`.

        Raises:
            DecodingError: It is none, or was written by another codec.
        """
        found = cast("C", codec.decode(self.command, command))
        set_tracking_id(found, self.tracking_id)
        return found

    def with_command(self, command: Command[object], codec: "Codec") -> "JobRecord":
        """
        Return this job with another *command*, as *codec* writes it. What is stored already stays as it is.

        Raises:
            EncodingError: It can't be encoded.
        """
        return evolve(self, command=codec.encode(command, type(command)))

    def get_result(self, result: type[T], codec: "Codec") -> T | None:
        """
        Return the result itself, a *result*, as *codec* reads it; None until there is one.

        Raises:
            DecodingError: It is none, or was written by another codec.
        """
        return None if self.result is None else cast("T", codec.decode(self.result, result))

    def with_result(self, result: object, codec: "Codec", *, declared: object = None) -> "JobRecord":
        """
        Return this job with a *result*, as *codec* writes it. A worker settles with `Succeeded` instead.

        Args:
            result: Anything that the codec can write.
            codec: What writes it.
            declared: The declared type where that is more than `type(result)`, such as `list[int]`.

        Raises:
            EncodingError: It can't be encoded.
        """
        return evolve(self, result=codec.encode(result, type(result) if declared is None else declared))


@frozen(kw_only=True)
class StoredResult:
    """A job's status and values, without its command: what a tracker asks for again and again."""

    status: JobStatus
    progress: Payload | None
    result: Payload | None
    errors: tuple[JobError, ...]


_ERRORS: Final = frozenset({JobError})
_OPTIONAL: Final = {"worker_id": str, "idempotency_key": str, "progress": Payload, "result": Payload}


def _is_plain(job: JobRecord) -> bool:
    """
    Whether the fields of *job* already are what `_normalise` would make of them; False where that takes a closer look.

    Its time goes into looking attributes up, so it does that once: 1.0 us, where `_normalise` takes 6.
    """
    # fmt: off
    (
        tracking_id, queue_id, command, execute_after, expire_on, created_at, priority, idempotency_key, _metadata,
        status, attempt, lapses, fence, dequeue_after, worker_id, progress, result, errors, finished_at,
    ) = job.__dict__.values()  # in the order in which the class names them
    # fmt: on
    return (
        type(tracking_id) is UUID
        and type(queue_id) is str
        and 0 < len(queue_id) <= QUEUE_ID_CHARACTERS
        and type(command) is Payload
        and type(execute_after) is type(created_at) is type(dequeue_after) is datetime
        and execute_after.tzinfo is created_at.tzinfo is dequeue_after.tzinfo is UTC
        and (expire_on is None or (type(expire_on) is datetime and expire_on.tzinfo is UTC))
        and (expire_on is None or execute_after < expire_on)
        and type(priority) is type(attempt) is type(lapses) is type(fence) is int
        and -100 <= priority <= 100
        and attempt >= 0
        and lapses >= 0
        and fence >= 0
        and (idempotency_key is None or (type(idempotency_key) is str and bool(idempotency_key.strip())))
        and type(status) is JobStatus
        and (finished_at is None or (type(finished_at) is datetime and finished_at.tzinfo is UTC))
        and (finished_at is None) is not (status in COMPLETE)
        and (worker_id is None or type(worker_id) is str)
        and (progress is None or type(progress) is Payload)
        and (result is None or type(result) is Payload)
        and type(errors) is tuple
        and (not errors or _ERRORS.issuperset(map(type, errors)))
    )


def _normalise(job: JobRecord) -> None:
    """Check every field of *job*, and bring datetimes and key into their one form."""
    require(job.tracking_id, UUID, "tracking_id")
    require_text(job.queue_id, "queue_id")
    if len(job.queue_id) > QUEUE_ID_CHARACTERS:
        raise ValueError(f"queue_id must have at most {QUEUE_ID_CHARACTERS} characters, not {len(job.queue_id)}")
    require(job.command, Payload, "command")
    _normalise_instants(job)
    require_int(job.priority, "priority")
    if job.priority not in PRIORITIES:
        raise ValueError(f"priority must be from -100 to 100, not {job.priority}")
    for name in ("attempt", "lapses", "fence"):
        require_int(getattr(job, name), name, minimum=0)
    for name, kind in _OPTIONAL.items():
        if getattr(job, name) is not None:
            require(getattr(job, name), kind, name)
    if job.idempotency_key is not None and not job.idempotency_key.strip():
        object.__setattr__(job, "idempotency_key", None)
    require(job.status, JobStatus, "status")
    if (job.finished_at is None) is job.status.is_complete:
        raise ValueError(f"finished_at must be set if and only if the job is complete, which {job.status!r} decides")
    require(job.errors, tuple, "errors")
    for error in job.errors:
        require(error, JobError, "errors")


def _normalise_instants(job: JobRecord) -> None:
    for name in ("execute_after", "created_at", "dequeue_after"):
        object.__setattr__(job, name, utc(getattr(job, name), name))
    for name in ("expire_on", "finished_at"):
        if getattr(job, name) is not None:
            object.__setattr__(job, name, utc(getattr(job, name), name))
    if job.expire_on is not None and job.expire_on <= job.execute_after:
        raise ValueError(
            f"expire_on ({job.expire_on.isoformat()}) must lie after execute_after ({job.execute_after.isoformat()})"
        )


def _escape(text: str) -> str:
    """Write NUL and lone surrogates as escapes: some engines refuse the one, UTF-8 the other."""
    if text.isascii():
        return text.replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _cut_end(text: str, limit: int) -> str:
    """Keep the start of *text*, at most *limit* bytes of UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode("utf-8", "ignore") + "..."


def _cut_start(text: str, limit: int) -> str:
    """Keep the end of *text*, at most *limit* bytes of UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= limit else "..." + encoded[3 - limit :].decode("utf-8", "ignore")
