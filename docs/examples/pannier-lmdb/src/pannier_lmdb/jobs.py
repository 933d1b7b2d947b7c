"""The jobs as one transaction sees them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pannier.storage import JobRecord, Payload

from pannier_lmdb import layout, records

if TYPE_CHECKING:
    import lmdb


class Jobs:
    """
    Reads and writes records, and keeps the index true: no other code writes a key.

    Iterating may go on while what was met is changed or removed.
    """

    def __init__(self, transaction: lmdb.Transaction[bytes]) -> None:
        self._transaction = transaction

    def get(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job with its command left out, which is enough for every transition; or None."""
        written = self._transaction.get(layout.record_key(tracking_id))
        return None if written is None else records.load_record(written)

    def get_whole(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job with its command, or None."""
        job = self.get(tracking_id)
        return None if job is None else self.with_command(job)

    def with_command(self, job: JobRecord) -> JobRecord:
        """Return *job* with its command, or with the damaged bytes that stand in its place."""
        return records.with_command(job, self._command(job.tracking_id))

    def get_command(self, tracking_id: UUID) -> Payload:
        """
        Return the command of a job that exists.

        Raises:
            ValueError: It was damaged.
        """
        return records.load_command(self._command(tracking_id))

    def with_key(self, queue_id: str, idempotency_key: str) -> UUID | None:
        """Return the job that has this key in its queue, or None."""
        found = self._transaction.get(layout.unique_key(queue_id, idempotency_key))
        return None if found is None else UUID(bytes=found)

    def add(self, job: JobRecord) -> None:
        """
        Store a new job.

        Raises:
            UnstorableError: It can't be held exactly.
        """
        self._transaction.put(layout.command_key(job.tracking_id), records.dump_command(job))
        self._transaction.put(layout.record_key(job.tracking_id), records.dump_record(job))
        self._index(job.tracking_id, frozenset(), layout.index_keys(job))

    def replace(self, before: JobRecord, after: JobRecord) -> None:
        """
        Store what has become of a job.

        Raises:
            UnstorableError: It can't be held exactly.
        """
        key = layout.record_key(after.tracking_id)
        self._transaction.put(key, records.dump_record(after, over=self._transaction.get(key, b"{}")))
        self._index(after.tracking_id, layout.index_keys(before), layout.index_keys(after))

    def remove(self, job: JobRecord) -> None:
        """Remove a job, and leave nothing behind."""
        self._transaction.delete(layout.command_key(job.tracking_id))
        self._transaction.delete(layout.record_key(job.tracking_id))
        self._index(job.tracking_id, layout.index_keys(job), frozenset())

    def iterate(self, prefix: bytes, *, until: datetime | None = None) -> Iterator[JobRecord]:
        """Iterate over the jobs that the index's keys with *prefix* lead to, in order, up to *until* if it is given."""
        end = prefix + (b"" if until is None else layout.instant(until)) + layout.BEHIND
        for _, found in self._scan(prefix, end):
            job = self.get(UUID(bytes=found))
            assert job is not None, "the index is true"
            yield job

    def iterate_all(self, *, after: UUID | None = None) -> Iterator[JobRecord]:
        """Iterate over all jobs behind *after*, by tracking id."""
        start = layout.RECORDS if after is None else layout.record_key(after) + b"\0"
        for _, written in self._scan(start, layout.RECORDS + layout.BEHIND):
            yield records.load_record(written)

    def lines(self, prefix: bytes, *, length: int) -> Iterator[bytes]:
        """Iterate over what follows *prefix* in keys, as prefixes longer by *length*, with one look-up for each."""
        key = self._first(prefix, prefix + layout.BEHIND)
        while key is not None:
            line = key[: len(prefix) + length]
            yield line
            key = self._first(line + layout.BEHIND, prefix + layout.BEHIND)

    def _command(self, tracking_id: UUID) -> bytes:
        return self._transaction.get(layout.command_key(tracking_id), b"")

    def _index(self, tracking_id: UUID, before: frozenset[bytes], after: frozenset[bytes]) -> None:
        for key in before - after:
            self._transaction.delete(key)
        for key in after - before:
            self._transaction.put(key, tracking_id.bytes)

    def _scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._transaction.cursor()
        found = cursor.set_range(start)
        while found and cursor.key() < end:
            key = cursor.key()
            yield key, cursor.value()
            found = cursor.set_range(key + b"\0")

    def _first(self, start: bytes, end: bytes) -> bytes | None:
        return next((key for key, _ in self._scan(start, end)), None)
