"""Claiming: which jobs a claim takes, and when the next one falls due, in one pass over the fronts of the lines."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from heapq import merge
from operator import itemgetter
from typing import Final

from attrs import define, field, frozen

from pannier.checks import require
from pannier.claims import Claim, Claimed, Demand, Unreadable
from pannier.instants import MICROSECOND, from_microseconds, to_microseconds
from pannier.records import JobRecord, Lease
from pannier.transitions import lease_end
from pannier_sqlite import _rows
from pannier_sqlite._rows import ClaimedRow
from pannier_sqlite._statements import statement
from pannier_sqlite._thread import Work

logger = logging.getLogger("pannier.sqlite")

MAX_EXPIRED: Final = 1_000
"""How many expired jobs one claim marks at most on its way; the next one goes on, and none takes long (R119)."""


@frozen
class Taken:
    """
    What a claim took, as rows.

    Attributes:
        rows: The jobs, in the order in which they stood in line.
        next_due: When the next one falls due, in microseconds; None: nothing is left.
    """

    rows: Sequence[ClaimedRow]
    next_due: int | None


def claim_jobs(claim: Claim) -> Work[Taken]:
    """
    Return what leases to the claimer what it asks for, as far as it is due.

    Raises:
        UnstorableError: The worker's or a queue's name can't be held.
        ValueError: The leases would end after the year 9999.
    """
    require(claim, Claim, "claim")
    _rows.check_text(claim.worker_id, "worker_id", None)
    for demand in claim.demands:
        for queue_id in demand.queue_ids:
            _rows.check_text(queue_id, "queue_id", None)
    now, end = to_microseconds(claim.now), to_microseconds(lease_end(claim.now, claim.lease_for))

    def take(connection: sqlite3.Connection) -> Taken:
        try:
            return _Claiming(connection, claim.worker_id, now, end).take_all(claim.demands)
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):
                raise
        # Not SQLite's error, but the driver's, before anything was written: a damaged text is no UTF-8 (R56). Decoding
        # by a function of ours takes longer, so that it is left to this rare case.
        connection.text_factory = _rows.decode
        try:
            return _Claiming(connection, claim.worker_id, now, end).take_all(claim.demands)
        finally:
            connection.text_factory = str

    return take


def to_claimed(taken: Taken, claim: Claim) -> Claimed:
    """Turn the rows into records. To be called after the commit, so that the lock is held no longer than needed."""
    jobs: list[JobRecord] = []
    unreadable: list[Unreadable] = []
    ends_at = lease_end(claim.now, claim.lease_for)
    for row in taken.rows:
        try:
            jobs.append(_rows.to_claimed_job(row, worker_id=claim.worker_id, ends_at=ends_at))
        except _rows.UNREADABLE as error:  # damaged by another hand (R56)
            unreadable += _unreadable(row, error)
    return Claimed(jobs=tuple(jobs), unreadable=tuple(unreadable), next_due=_next_due(taken.next_due, claim))


def _unreadable(row: ClaimedRow, error: Exception) -> Iterator[Unreadable]:
    """Give what tells the worker of a damaged job; nothing where no lease can name it, since its id is damaged too."""
    seq, _, _, tracking_id, queue_id, fence, *_ = row
    try:
        lease = Lease(_rows.to_id(tracking_id), fence)
    except _rows.UNREADABLE:
        logger.warning(
            "a job of queue %r never runs, its tracking id is no UUID (seq %d of pannier_jobs); mend or delete it",
            queue_id,
            seq,
        )
    else:
        yield Unreadable(lease, queue_id, f"what is stored can't be read: {_rows.describe(error)}")


@define
class _Claiming:
    """One claim on its way. Times are microseconds."""

    connection: sqlite3.Connection
    worker_id: str
    now: int
    lease_end: int
    taken: list[ClaimedRow] = field(factory=list[ClaimedRow])
    expired: list[int] = field(factory=list[int])
    next_due: int | None = None

    def take_all(self, demands: Iterable[Demand]) -> Taken:
        """Choose for each demand, then write."""
        for demand in demands:
            self._take(demand)
        if self.taken:
            self._write("claim_jobs", map(itemgetter(0), self.taken))
        if self.expired:
            self._write("expire_jobs", self.expired)
        return Taken(self.taken, self.next_due)

    def _take(self, demand: Demand) -> None:
        """Take lapsed leases first, oldest end first, then by priority and due time (R25, R26)."""
        lapsed: list[Iterator[ClaimedRow]] = []
        lines: list[tuple[int, str]] = []
        for queue_id in demand.queue_ids:
            for priority, earliest in self.connection.execute(statement("survey_queue"), {"queue_id": queue_id}):
                if earliest is None:  # no job runs
                    continue
                if earliest > self.now:
                    self._note(earliest)
                elif priority is None:
                    lapsed.append(self._read("read_leases", queue_id))
                else:
                    lines.append((-priority, queue_id))
        wanted = demand.limit - self._take_from(merge(*lapsed, key=itemgetter(1)), demand.limit)
        for priority, queue_id in sorted(lines):
            if not wanted and self.next_due is not None and self.next_due <= self.now:
                break  # that more is due is known already
            wanted -= self._take_from(self._read("read_line", queue_id, priority=-priority), wanted)

    def _take_from(self, rows: Iterable[ClaimedRow], wanted: int) -> int:
        """
        Take up to *wanted* of *rows*; return how many it were.

        What is due is either claimable or expired; expired jobs are marked, so that no later claim has to pass over
        them again.
        """
        taken = 0
        for row in rows:
            due, expire_on = row[1], row[2]
            if due > self.now:
                self._note(due)
                break
            if expire_on is not None and expire_on <= self.now:
                if len(self.expired) == MAX_EXPIRED:
                    self._note(self.now)
                    break
                self.expired.append(row[0])
            elif taken == wanted:
                self._note(due)
                break
            else:
                self.taken.append(row)
                taken += 1
        return taken

    def _note(self, due: int) -> None:
        if self.next_due is None or due < self.next_due:
            self.next_due = due

    def _read(self, name: str, queue_id: str, **parameters: int) -> Iterator[ClaimedRow]:
        """Read row by row: only those that are looked at cost anything."""
        told = {"queue_id": queue_id, **parameters}
        return self.connection.execute(statement(name), told)

    def _write(self, name: str, seqs: Iterable[int]) -> None:
        told = {"worker_id": self.worker_id, "lease_end": self.lease_end, "now": self.now}
        self.connection.execute(statement(name), {**told, "seqs": f"[{','.join(map(str, seqs))}]"})


def _next_due(due: int | None, claim: Claim) -> datetime | None:
    now = to_microseconds(claim.now)
    if due is None or due - now > claim.look_ahead // MICROSECOND:
        return None
    return claim.now if due <= now else from_microseconds(due)  # a damaged one may lie before all years
