"""An agenda: what falls due when, cleaned as it is read."""

from collections.abc import Callable
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import NamedTuple


class Entry(NamedTuple):
    """The job *key* falls due at *at*, unless its fence has moved on."""

    at: datetime
    key: int
    fence: int


class Agenda:
    """
    Entries in the order of their instants, then of their keys: a heap.

    An entry that no longer holds is not searched for; it is dropped when it comes up, or with all others of its kind
    when they are more than half of the heap. So every step costs O(log n), spread over the steps before it.
    """

    __slots__ = ("_entries", "_holds", "_stale")

    def __init__(self, holds: Callable[[Entry], bool]) -> None:
        self._holds = holds
        self._entries: list[Entry] = []
        self._stale = 0

    def add(self, entry: Entry) -> None:
        """Enter *entry*."""
        heappush(self._entries, entry)

    def first(self) -> Entry | None:
        """Return the earliest entry that holds."""
        entries = self._entries
        while entries:
            if self._holds(entries[0]):
                return entries[0]
            heappop(entries)
            self._stale -= 1
        return None

    def pop(self) -> None:
        """Take out what `first` has returned."""
        heappop(self._entries)

    def outdate(self) -> None:
        """Take note that some entry holds no more."""
        self._stale += 1
        if self._stale * 2 > len(self._entries) > 64:
            self._entries = list(filter(self._holds, self._entries))
            heapify(self._entries)
            self._stale = 0
