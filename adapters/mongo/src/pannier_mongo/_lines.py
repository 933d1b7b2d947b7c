"""
Lines: the front of one, read by ranges that hold about as many jobs as are wanted.

On MongoDB a sorted and limited find over the index costs as much as it returns, whatever the range. The ranges are for
servers that read all of a range before they sort and limit: there a claim's cost must not grow with the backlog either.
"""

from datetime import datetime, timedelta
from typing import Final, TypeAlias

from attrs import define, field, frozen

from pannier.instants import round_down
from pannier_mongo import _queries
from pannier_mongo._connection import Store
from pannier_mongo._documents import JobDocument, is_claimable
from pannier_mongo._queries import FIRST_INSTANT, INSTANT, LAST_INSTANT, position_of, start_of

Line: TypeAlias = tuple[str, int]
"""A queue and a priority, or `LEASED`."""

GROWTH: Final = 8
"""How much further each range reaches than the one before, where that held too few."""

PAGE: Final = 500
"""How many jobs are read at once where expired ones stand in the way."""

LONGEST: Final = 864_000_000 * INSTANT
"""No range needs to grow from a longer one: ten days."""

SHORTEST: Final = INSTANT // 1024
"""No range is shorter: of many jobs that share an instant it holds a thousandth, as ids are drawn at random."""


@frozen
class Horizon:
    """
    What time it is, and how far a claim looks ahead.

    Attributes:
        now: On the storage's grid, not after the caller's.
        end: The position from which on jobs are nothing to it.
    """

    now: datetime
    end: int

    @classmethod
    def of(cls, now: datetime, look_ahead: timedelta, resolution: timedelta) -> "Horizon":
        """Return the horizon of a claim at *now*."""
        last = now + look_ahead if look_ahead < LAST_INSTANT - now else LAST_INSTANT
        return cls(round_down(now, resolution), start_of(round_down(last, resolution)) + INSTANT)


@define
class Reach:
    """How far the first look at a line goes, and how much further one has to go from there to find as much again."""

    until: int
    step: int


Reaches: TypeAlias = dict[Line, Reach]
"""What one instance has learned. Only the cost depends on it."""


@define
class Front:
    """
    What stands at the front of a line.

    Attributes:
        fresh: Due jobs, in order, as many as are wanted.
        expired: Due jobs that must not be started any more.
        damaged: Due jobs that nobody can claim, since another hand has damaged them.
        next_due: When the first of the others falls due; None: not before the horizon.
    """

    fresh: list[JobDocument] = field(factory=list[JobDocument])
    expired: list[JobDocument] = field(factory=list[JobDocument])
    damaged: list[JobDocument] = field(factory=list[JobDocument])
    next_due: datetime | None = None


async def read_front(
    store: Store, reaches: Reaches, line: Line, horizon: Horizon, *, wanted: int, max_expired: int
) -> Front:
    """
    Read the front of *line*: *wanted* due jobs, and whatever stands between them.

    The first look of an instance goes as far as the horizon, since it knows no shorter range that holds a job.
    SecantusDB 0.7 decodes all of it, and lets hardly anybody in meanwhile: 0.26 s of the processor beside 5,000 due
    jobs, and 0.01 s at the next claim.
    """
    reach = reaches.pop(line, Reach(horizon.end, SHORTEST))
    front = Front()
    first: int | None = None
    since, until, step = start_of(FIRST_INSTANT), min(reach.until, horizon.end), reach.step
    while since < horizon.end:
        found, beyond = _queries.in_line(*line, since=since, until=until)
        limit = max(wanted - len(front.fresh) + 1, PAGE if front.expired or front.damaged else 0)
        documents = await store.latest.find(found).sort(_queries.IN_LINE).limit(limit).to_list()
        for document in documents:
            first = position_of(document) if first is None else first
            if _place(front, document, horizon.now, wanted=wanted, max_expired=max_expired):
                reaches[line] = _reach(first, position_of(document))
                return front
        since = beyond if len(documents) < limit else position_of(documents[-1]) + 1
        if since == until:
            step = min(step, LONGEST) * GROWTH
            until = min(_whole(until + step, step), horizon.end)
    return front


def _reach(first: int, left: int) -> Reach:
    """Return how far to look next, if from the first job to the first that is left one went as far as this time."""
    step = max(2 * (left - first), SHORTEST)
    return Reach(_whole(left + step, step), step)


def _whole(position: int, step: int) -> int:
    """Return where a range ends that is to reach *position*: between two instants, unless it is shorter than one."""
    return position if step < INSTANT else -(-position // INSTANT) * INSTANT


def _place(front: Front, document: JobDocument, now: datetime, *, wanted: int, max_expired: int) -> bool:
    """Put *document* where it belongs; return whether it is the first of those that are left."""
    due, expire_on = document["dequeue_after"], document.get("expire_on")
    if due <= now and not is_claimable(document):
        if len(front.damaged) < max_expired:
            front.damaged.append(document)
            return False
        due = now
    elif due <= now and expire_on is not None and expire_on <= now:
        if len(front.expired) < max_expired:
            front.expired.append(document)
            return False
        due = now
    elif due <= now and len(front.fresh) < wanted:
        front.fresh.append(document)
        return False
    front.next_due = due
    return True
