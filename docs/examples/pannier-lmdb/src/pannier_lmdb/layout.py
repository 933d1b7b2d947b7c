"""
Where everything stands: one sorted map of bytes to bytes, in which the first letter of a key says what it is.

    m                                               what made the map, see `schema`
    r <job>                                         the record, but for its command
    c <job>                                         the command, written once
    k <queue> <idempotency key>                     the one job that has them
    p <queue> <priority> <dequeue_after> <job>      PENDING jobs, in the order in which they are claimed
    l <queue> <dequeue_after> <job>                 RUNNING jobs, by the end of their lease
    e <queue> <expire_on> <job>                     jobs that may expire
    f <queue> <status> <finished_at> <job>          complete jobs, by when they ended

The last five are the index: their value is the job's tracking id, and they follow from its record alone. All parts have
a fixed length, so that the order of the bytes is the order of what they mean. Names stand as digests, since LMDB's keys
have at most 511 bytes.
"""

from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from pannier.storage import JobRecord, JobStatus, to_microseconds

SCHEMA: Final = b"m"
RECORDS: Final = b"r"
PENDING: Final = b"p"
LEASED: Final = b"l"
EXPIRING: Final = b"e"
FINISHED: Final = b"f"

# No key goes on for so long after any of its prefixes: behind all that begin with the prefix, before all others.
BEHIND: Final = b"\xff" * 64

NAME_LENGTH: Final = 16
_ENDS: Final = {
    JobStatus.SUCCEEDED: b"s",
    JobStatus.FAILED: b"f",
    JobStatus.CANCELLED: b"c",
    JobStatus.EXPIRED: b"e",
}
_FIRST_INSTANT: Final = 2**63


def record_key(tracking_id: UUID) -> bytes:
    """Return where the record of a job stands."""
    return RECORDS + tracking_id.bytes


def command_key(tracking_id: UUID) -> bytes:
    """Return where the command of a job stands."""
    return b"c" + tracking_id.bytes


def unique_key(queue_id: str, idempotency_key: str) -> bytes:
    """Return where the one job of a queue and idempotency key stands."""
    return b"k" + name(queue_id) + name(idempotency_key)


def pending(queue_id: str) -> bytes:
    """Return what the keys of a queue's PENDING jobs begin with; their priority follows."""
    return PENDING + name(queue_id)


def leased(queue_id: str) -> bytes:
    """Return what the keys of a queue's RUNNING jobs begin with."""
    return LEASED + name(queue_id)


def name(text: str) -> bytes:
    """Return what stands for a name, in 16 bytes."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=NAME_LENGTH).digest()


def status_of(status: JobStatus) -> bytes:
    """Return what stands for a status that ends a job."""
    return _ENDS[status]


def instant(at: datetime) -> bytes:
    """Return what stands for an instant, in 8 bytes."""
    return (to_microseconds(at) + _FIRST_INSTANT).to_bytes(8)


def index_keys(job: JobRecord) -> frozenset[bytes]:
    """Return all keys of the index that lead to *job*."""
    keys = set()
    if job.idempotency_key is not None:
        keys.add(unique_key(job.queue_id, job.idempotency_key))
    if job.expire_on is not None and not job.is_complete:
        keys.add(EXPIRING + name(job.queue_id) + instant(job.expire_on) + job.tracking_id.bytes)
    match job:
        case JobRecord(status=JobStatus.PENDING):
            line = pending(job.queue_id) + bytes([100 - job.priority])
            keys.add(line + instant(job.dequeue_after) + job.tracking_id.bytes)
        case JobRecord(status=JobStatus.RUNNING):
            keys.add(leased(job.queue_id) + instant(job.dequeue_after) + job.tracking_id.bytes)
        case JobRecord(finished_at=datetime() as finished_at):
            line = FINISHED + name(job.queue_id) + status_of(job.status)
            keys.add(line + instant(finished_at) + job.tracking_id.bytes)
    return frozenset(keys)
