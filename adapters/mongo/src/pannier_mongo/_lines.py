"""
Lines: the front of one, read by ranges of time that hold about as many jobs as are wanted.

On MongoDB a sorted and limited find over the index costs as much as it returns, whatever the range. The ranges are for
servers that read all of a range before they sort and limit: there a claim's cost must not grow with the backlog either.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from attrs import define, field, frozen

from pannier.instants import round_down
from pannier_mongo import _queries
from pannier_mongo._connection import Store
from pannier_mongo._documents import JobDocument

Line: TypeAlias = tuple[str, int]
"""A queue and a priority, or `LEASED`."""

GROWTH: Final = 8
"""How much further each range reaches than the one before, where that held too few."""

PAGE: Final = 500
"""How many jobs are read at once where expired ones stand in the way."""

LONGEST: Final = timedelta(days=10)
"""No range needs to grow from a longer one."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST_INSTANT: Final = datetime.max.replace(tzinfo=UTC)


@frozen
class Horizon:
    """
    What time it is, and how far a claim looks ahead.

    Attributes:
        now: On the storage's grid, not after the caller's.
        end: Later jobs are nothing to it.
    """

    now: datetime
    end: datetime

    @classmethod
    def of(cls, now: datetime, look_ahead: timedelta, resolution: timedelta) -> "Horizon":
        """Return the horizon of a claim at *now*."""
        end = now + look_ahead if look_ahead < _LAST_INSTANT - now else _LAST_INSTANT
        return cls(round_down(now, resolution), round_down(end, resolution))


@define
class Reach:
    """How far the first look at a line goes, and how much further one has to go from there to find as much again."""

    until: datetime
    step: timedelta


Reaches: TypeAlias = dict[Line, Reach]
"""What one instance has learned. Only the cost depends on it."""


@define
class Front:
    """
    What stands at the front of a line.

    Attributes:
        fresh: Due jobs, in order, as many as are wanted.
        expired: Due jobs that must not be started any more.
        next_due: When the first of the others falls due; None: not before the horizon.
    """

    fresh: list[JobDocument] = field(factory=list[JobDocument])
    expired: list[JobDocument] = field(factory=list[JobDocument])
    next_due: datetime | None = None


async def read_front(
    store: Store, reaches: Reaches, line: Line, horizon: Horizon, *, wanted: int, max_expired: int
) -> Front:
    """Read the front of *line*: *wanted* due jobs, and whatever stands between them."""
    reach = reaches.get(line, Reach(horizon.end, _MILLISECOND))
    front = Front()
    seen: list[JobDocument] = []
    since, until, step = _queries.FIRST_INSTANT, min(reach.until, horizon.end), reach.step
    while True:
        is_over = await _read_range(
            store, line, front, seen, (since, until), horizon, wanted=wanted, max_expired=max_expired
        )
        if is_over or until >= horizon.end:
            break
        since, step = until + _MILLISECOND, min(step, LONGEST) * GROWTH
        until = min(until + step, horizon.end) if step < horizon.end - until else horizon.end
    if front.next_due is None:
        reaches[line] = Reach(horizon.end, step)
    else:
        span = 2 * (front.next_due - seen[0]["dequeue_after"])
        reaches[line] = Reach(min(front.next_due, _LAST_INSTANT - span) + span, max(span, _MILLISECOND))
    return front


async def _read_range(
    store: Store,
    line: Line,
    front: Front,
    seen: list[JobDocument],
    within: tuple[datetime, datetime],
    horizon: Horizon,
    *,
    wanted: int,
    max_expired: int,
) -> bool:
    """Read on *within* a range; return whether nothing more need be read."""
    since, until = within
    read: set[object] = set()
    while True:
        limit = max(wanted - len(front.fresh) + 1, PAGE if front.expired else 0) + len(read)
        cursor = store.latest.find(_queries.in_line(*line, since=since, until=until))
        documents = await cursor.sort(_queries.IN_LINE).limit(limit).to_list()
        for document in documents:
            if document["_id"] not in read:
                seen.append(document)
                if _place(front, document, horizon.now, wanted=wanted, max_expired=max_expired):
                    return True
        if len(documents) < limit:
            return False
        # Expired jobs stood in the way. Read on from the last one; others of its instant come again.
        since = documents[-1]["dequeue_after"]
        read = {document["_id"] for document in documents if document["dequeue_after"] == since}


def _place(front: Front, document: JobDocument, now: datetime, *, wanted: int, max_expired: int) -> bool:
    """Put *document* where it belongs; return whether it is the first of those that are left."""
    due, expire_on = document["dequeue_after"], document.get("expire_on")
    if due <= now and expire_on is not None and expire_on <= now:
        if len(front.expired) < max_expired:
            front.expired.append(document)
            return False
        due = now
    elif due <= now and len(front.fresh) < wanted:
        front.fresh.append(document)
        return False
    front.next_due = due
    return True
