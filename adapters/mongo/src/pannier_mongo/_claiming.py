"""
Claiming: read the fronts of the lines, then lease what was read by a guarded update.

No lock is held in between. What another claim, a cancel or a purge was quicker with does not match the guard any more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import merge
from itertools import groupby
from typing import Final, TypeVar
from uuid import UUID

from attrs import define, field
from bson import ObjectId
from pymongo import UpdateMany

from pannier.checks import require
from pannier.claims import Claim, Claimed, Demand, Unreadable
from pannier.instants import round_up
from pannier.records import JobRecord, Lease
from pannier.transitions import lease_end
from pannier_mongo import _ending, _queries
from pannier_mongo._connection import Session, Store, yield_between
from pannier_mongo._documents import (
    LEASED,
    RESOLUTION,
    UNREADABLE,
    JobDocument,
    check_text,
    leased,
    to_job,
    to_priorities,
)
from pannier_mongo._lines import Front, Horizon, Reaches, read_front

State = TypeVar("State")

CHUNK: Final = 500
"""Jobs in one update."""

MAX_EXPIRED: Final = 1_000
"""How many expired jobs one claim marks at most on its way; the next one goes on, and none takes long (R119)."""


def check_claim(claim: Claim) -> None:
    """
    Refuse names that can't be stored.

    Raises:
        UnstorableError: The worker's id, or a queue's, can't be held.
    """
    require(claim, Claim, "claim")
    check_text(claim.worker_id, "worker_id", None)
    for demand in claim.demands:
        for queue_id in demand.queue_ids:
            check_text(queue_id, "queue_id", None)


async def claim_jobs(store: Store, reaches: Reaches, claim: Claim) -> Claimed:
    """
    Lease to the claimer what it asks for, as far as it is due.

    Raises:
        ValueError: The leases would end after the year 9999.
    """
    end = round_up(lease_end(claim.now, claim.lease_for), RESOLUTION)
    claiming = _Claiming(store, reaches, claim, Horizon.of(claim.now, claim.look_ahead, RESOLUTION), end)
    await claiming.choose()
    await claiming.take()
    return await claiming.to_claimed()


@define(eq=False)
class _Claiming:
    """One claim on its way."""

    store: Store
    reaches: Reaches
    claim: Claim
    horizon: Horizon
    lease_end: datetime
    mark: ObjectId = field(factory=ObjectId)
    lapsed: list[JobDocument] = field(factory=list[JobDocument])
    pending: list[JobDocument] = field(factory=list[JobDocument])
    expired: list[JobDocument] = field(factory=list[JobDocument])
    damaged: list[JobDocument] = field(factory=list[JobDocument])
    taken: list[JobDocument] = field(factory=list[JobDocument])
    next_due: datetime | None = None

    async def choose(self) -> None:
        """Read what is to be taken, for each demand."""
        names = [queue_id for demand in self.claim.demands for queue_id in demand.queue_ids]
        priorities: dict[str, Sequence[int]] = {}
        async for queue in self.store.queues.find({"_id": {"$in": names}}):
            priorities[queue["_id"]] = to_priorities(queue)
        for demand in self.claim.demands:
            await self._choose(demand, priorities)

    async def _choose(self, demand: Demand, priorities: Mapping[str, Sequence[int]]) -> None:
        """Choose lapsed leases first, oldest end first, then by priority and due time (R25, R26)."""
        known = [queue_id for queue_id in demand.queue_ids if queue_id in priorities]
        fronts = [await self._read(queue_id, LEASED, demand.limit) for queue_id in known]
        wanted = demand.limit - self._add(self.lapsed, fronts, demand.limit)
        lines = sorted((-priority, queue_id) for queue_id in known for priority in priorities[queue_id])
        for _, same in groupby(lines, key=lambda line: line[0]):
            if not wanted and self._has_more:
                break
            fronts = [await self._read(queue_id, -priority, wanted) for priority, queue_id in same]
            wanted -= self._add(self.pending, fronts, wanted)
        for queue_id in known:
            await self._look_again_for_leases(queue_id)

    async def _look_again_for_leases(self, queue_id: str) -> None:
        """
        Count the leases of a queue that began while its lines were read.

        A job that another claim took after the first look at the leases, and before the look at its own line, was in
        neither. Only to be counted, not to be taken: what it stands before has been chosen already (R25). A job that
        was given back in between was a lease at the first look, and waits at the second: it is seen.
        """
        if self._has_more:
            return  # the claimer asks again anyway
        chosen = {document["_id"] for document in self.lapsed}
        front = await read_front(
            self.store,
            self.reaches,
            (queue_id, LEASED),
            self.horizon,
            wanted=len(chosen),
            max_expired=MAX_EXPIRED,
        )
        self._note(front.next_due)
        for document in front.fresh:
            if document["_id"] not in chosen:
                self._note(document["dequeue_after"])

    async def _read(self, queue_id: str, line: int, wanted: int) -> Front:
        room = MAX_EXPIRED - len(self.expired)
        front = await read_front(
            self.store, self.reaches, (queue_id, line), self.horizon, wanted=wanted, max_expired=room
        )
        self.expired += front.expired
        self.damaged += front.damaged
        self._note(front.next_due)
        return front

    def _add(self, chosen: list[JobDocument], fronts: Sequence[Front], wanted: int) -> int:
        """Choose the first *wanted* of *fronts*; return how many it were."""
        in_order = list(merge(*(front.fresh for front in fronts), key=lambda document: document["dequeue_after"]))
        chosen += in_order[:wanted]
        for document in in_order[wanted : wanted + 1]:
            self._note(document["dequeue_after"])
        return min(len(in_order), wanted)

    async def take(self) -> None:
        """Lease what was chosen, and mark what has expired."""
        self._keep_what_was_read_last()
        for start in range(0, len(self.pending), CHUNK):
            await self._take_pending(self.pending[start : start + CHUNK])
        for start in range(0, len(self.lapsed), CHUNK):
            await self._take_lapsed(self.lapsed[start : start + CHUNK])
        if self.expired:
            pending, running = _ending.by_state(self.expired)
            await _ending.expire_pending(self.store, pending, self.horizon.now)
            await _ending.expire_running(self.store, running, self.horizon.now)
        if self.damaged:
            await _ending.bury(self.store, self.damaged, self.horizon.now)
            self._note(self.horizon.now)  # what stood behind them may have been overlooked
        if len(self.taken) < len(self.pending) + len(self.lapsed):  # somebody was quicker, or holds the rest
            self._note(self.horizon.now)

    def _keep_what_was_read_last(self) -> None:
        """Choose each job once: one that was given back while the lines were read may stand in two of them."""
        pending = {document["_id"]: document for document in self.pending}
        lapsed = {document["_id"]: document for document in self.lapsed if document["_id"] not in pending}
        self.pending, self.lapsed = list(pending.values()), list(lapsed.values())

    async def _take_pending(self, chosen: Sequence[JobDocument]) -> None:
        """
        Lease pending jobs.

        A pending job can't change without a new fence, so what was read is what was leased, and is read again only
        where somebody else has got a part of it.
        """
        update = self._update(lapses=0)
        writes = [
            UpdateMany(_queries.pending(ids, fence), update)
            for fence, ids in _alike(chosen, lambda document: document["fence"])
        ]
        done = await self.store.jobs.bulk_write(writes, ordered=False)
        if done.matched_count == len(chosen):
            self.taken += [
                leased(document, worker_id=self.claim.worker_id, lease_end=self.lease_end) for document in chosen
            ]
        elif done.matched_count:
            self.taken += await self._read_taken([document["_id"] for document in chosen], None)

    async def _take_lapsed(self, chosen: Sequence[JobDocument]) -> None:
        """
        Lease jobs anew whose leases have lapsed; those that somebody is settling at this moment are passed over.

        So are those that were leased or renewed since they were read, even if that is over, too: others may have come
        to stand before them (R25).
        """

        async def take(documents: Sequence[JobDocument], session: Session | None) -> list[JobDocument]:
            update = self._update(lapses=1)
            writes = [
                UpdateMany(_queries.lapsed(ids, fence, end), update)
                for (fence, end), ids in _alike(
                    documents, lambda document: (document["fence"], document["dequeue_after"])
                )
            ]
            await self.store.jobs.bulk_write(writes, ordered=False, session=session)
            return await self._read_taken([document["_id"] for document in documents], session)

        parts, _ = await self.store.without_waiting(chosen, lambda document: document["_id"], take)
        for part in parts:
            self.taken += part

    async def _read_taken(self, ids: Sequence[UUID], session: Session | None) -> list[JobDocument]:
        taken: list[JobDocument] = []
        for lookup in _queries.lookups(ids):
            taken += await self.store.jobs.find(_queries.marked(lookup, self.mark), session=session).to_list()
        return taken

    def _update(self, *, lapses: int) -> Mapping[str, object]:
        return _queries.claimed(worker_id=self.claim.worker_id, lease_end=self.lease_end, mark=self.mark, lapses=lapses)

    @property
    def _has_more(self) -> bool:
        """Whether it is known that more is due than is asked for."""
        return self.next_due is not None and self.next_due <= self.horizon.now

    def _note(self, due: datetime | None) -> None:
        if due is not None and (self.next_due is None or due < self.next_due):
            self.next_due = due

    async def to_claimed(self) -> Claimed:
        """Turn the documents into records."""
        jobs: list[JobRecord] = []
        unreadable: list[Unreadable] = []
        for position, document in enumerate(self.taken):
            await yield_between(position, CHUNK)
            try:
                jobs.append(to_job(document))
            except UNREADABLE as error:  # damaged by another hand (R56)
                unreadable.append(_unreadable(document, error))
        return Claimed(jobs=tuple(jobs), unreadable=tuple(unreadable), next_due=self.next_due)


def _alike(
    documents: Iterable[JobDocument], state_of: Callable[[JobDocument], State]
) -> Iterator[tuple[State, Sequence[UUID]]]:
    """Gather the ids of jobs that one filter can guard, since they were read in the same state."""
    by_state: dict[State, list[UUID]] = {}
    for document in documents:
        by_state.setdefault(state_of(document), []).append(document["_id"])
    return ((state, portion) for state, ids in by_state.items() for portion in _queries.portions(ids))


def _unreadable(document: JobDocument, error: Exception) -> Unreadable:
    lease = Lease(document["_id"], document["fence"])
    return Unreadable(lease, document["queue_id"], f"what is stored can't be read: {type(error).__name__}: {error}")
