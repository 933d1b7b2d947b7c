"""An agenda: which job falls due when."""

from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final, final

LEFT_OVER: Final = 64
"""So many entries may be out of date, whatever the number of jobs, before all of them are looked through."""


@final
class Agenda:
    """
    Jobs, each with the instant at which it falls due, read in the order of the instants and then of the names.

    A heap. The entry of a job that is moved or removed stays behind until it comes up, or until such entries outnumber
    the jobs and are thrown away together. So every step costs O(log n), counting each such cleaning as a part of the
    steps that made it necessary. A job's name is the integer of its tracking id: comparing UUIDs runs Python code.
    """

    __slots__ = ("_due", "_entries")

    def __init__(self) -> None:
        self._due: dict[int, datetime] = {}
        self._entries: list[tuple[datetime, int]] = []

    def __len__(self) -> int:
        return len(self._due)

    def put(self, name: int, at: datetime) -> None:
        """Let the job *name* fall due *at*, and at no other instant."""
        if self._due.get(name) == at:
            return
        self._due[name] = at
        heappush(self._entries, (at, name))
        if len(self._entries) > 2 * len(self._due) + LEFT_OVER:
            self._clean()

    def remove(self, name: int) -> None:
        """Let the job *name* fall due no more, if it did."""
        if self._due.pop(name, None) is not None and len(self._entries) > 2 * len(self._due) + LEFT_OVER:
            self._clean()

    def first(self) -> tuple[datetime, int] | None:
        """Return the first instant, and the job that falls due then."""
        entries, due = self._entries, self._due
        while entries:
            at, name = entries[0]
            if due.get(name) == at:
                return entries[0]
            heappop(entries)
        return None

    def pop(self, until: datetime, limit: int) -> list[int]:
        """Remove and return the first *limit* jobs of those that fall due at or before *until*, in their order."""
        entries, due = self._entries, self._due
        names: list[int] = []
        while len(names) < limit and entries and entries[0][0] <= until:
            at, name = heappop(entries)
            if due.get(name) == at:
                del due[name]
                names.append(name)
        return names

    def _clean(self) -> None:
        self._entries = [(at, name) for name, at in self._due.items()]
        heapify(self._entries)
