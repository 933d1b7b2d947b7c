"""Claiming: which jobs a claim takes, and when the next one falls due, in one pass over the fronts of the lines."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import merge
from typing import Final

from attrs import define, field

from pannier.instants import from_microseconds, to_microseconds
from pannier.records import Claim, Claimed, Demand, JobRecord, Lease, Unreadable
from pannier_sqlite import _rows
from pannier_sqlite._rows import Row
from pannier_sqlite._statements import statement

MAX_EXPIRED: Final = 1_000
"""How many expired jobs one claim marks at most on its way; the next one goes on, and none takes long (R119)."""

_SEQ, _DUE, _RECORD = 0, 1, 2
_EXPIRE_ON: Final = _RECORD + 5
_ID, _QUEUE, _FENCE = _RECORD, _RECORD + 1, _RECORD + 14


@define
class _Claiming:
    """One claim on its way. Times are microseconds."""

    connection: sqlite3.Connection
    claim: Claim
    now: int
    lease_end: int
    taken: list[Row] = field(factory=list[Row])
    expired: list[int] = field(factory=list[int])
    next_due: int | None = None

    def take(self, demand: Demand) -> None:
        """Take lapsed leases first, oldest end first, then by priority and due time (R25, R26)."""
        wanted = demand.limit
        leases: list[Iterator[Row]] = []
        lines: list[tuple[int, str]] = []
        for queue_id in demand.queue_ids:
            for priority, earliest in self.connection.execute(statement("survey_queue"), {"queue_id": queue_id}):
                if earliest is None:
                    continue
                if earliest > self.now:
                    self._note(earliest)
                elif priority is None:
                    leases.append(self._read("read_leases", queue_id))
                else:
                    lines.append((-priority, queue_id))
        wanted -= self._take_from(merge(*leases, key=_due), wanted)
        for priority, queue_id in sorted(lines):
            wanted -= self._take_from(self._read("read_line", queue_id, priority=-priority), wanted)

    def _take_from(self, rows: Iterator[Row], wanted: int) -> int:
        """Take up to *wanted* of *rows*, mark the expired ones on the way; return how many were taken."""
        taken = 0
        if self.next_due is not None and self.next_due <= self.now and not wanted:
            return 0  # it is known already that more is due
        for row in rows:
            expire_on = row[_EXPIRE_ON]
            if row[_DUE] > self.now:  # type: ignore[operator]  # an INTEGER column
                self._note(row[_DUE])  # type: ignore[arg-type]
                break
            if expire_on is not None and expire_on <= self.now and len(self.expired) < MAX_EXPIRED:  # type: ignore[operator]
                self.expired.append(row[_SEQ])  # type: ignore[arg-type]
            elif taken == wanted or (expire_on is not None and expire_on <= self.now):  # type: ignore[operator]
                self._note(self.now)
                break
            else:
                self.taken.append(row)
                taken += 1
        return taken

    def _note(self, due: int) -> None:
        if self.next_due is None or due < self.next_due:
            self.next_due = due

    def _read(self, name: str, queue_id: str, **parameters: int) -> Iterator[Row]:
        return self.connection.execute(
            statement(name),
            {
                "queue_id": queue_id,
                "worker_id": self.claim.worker_id,
                "lease_end": self.lease_end,
                **parameters,
            },
        )

    def write(self) -> None:
        """Lease what was taken, mark what has expired."""
        if self.taken:
            self.connection.execute(
                statement("claim_jobs"),
                {
                    "seqs": json.dumps([row[_SEQ] for row in self.taken]),
                    "worker_id": self.claim.worker_id,
                    "lease_end": self.lease_end,
                },
            )
        if self.expired:
            self.connection.execute(statement("expire_jobs"), {"seqs": json.dumps(self.expired), "now": self.now})


def _due(row: Row) -> int:
    due = row[_DUE]
    assert isinstance(due, int)  # noqa: S101  # the table is STRICT
    return due


def claim_jobs(connection: sqlite3.Connection, claim: Claim) -> Callable[[], Claimed]:
    """
    Lease to the claimer what it asked for, as far as it is due. Inside the transaction of *connection*.

    Returns:
        What turns the rows into records; to be called after the commit, so that the lock is held no longer than needed.
    """
    claiming = _Claiming(
        connection, claim, now=to_microseconds(claim.now), lease_end=to_microseconds(claim.now + claim.lease_for)
    )
    for demand in claim.demands:
        claiming.take(demand)
    claiming.write()
    return lambda: _claimed(claiming)


def _claimed(claiming: _Claiming) -> Claimed:
    jobs: list[JobRecord] = []
    unreadable: list[Unreadable] = []
    for row in claiming.taken:
        try:
            jobs.append(_rows.to_job(row[_RECORD:]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # damaged by another hand (R56)
            unreadable.append(_unreadable(row, error))
    return Claimed(
        jobs=tuple(jobs), unreadable=tuple(unreadable), next_due=_next_due(claiming.next_due, claiming.claim)
    )


def _unreadable(row: Row, error: Exception) -> Unreadable:
    lease = Lease(_rows.to_id(row[_ID]), int(row[_FENCE] or 0))
    return Unreadable(lease, str(row[_QUEUE]), f"what is stored can't be read: {type(error).__name__}: {error}")


def _next_due(due: int | None, claim: Claim) -> datetime | None:
    if due is None or due > to_microseconds(claim.now + claim.look_ahead):
        return None
    return from_microseconds(due)
