"""Settling, renewing and reporting: every write that needs a lease."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeAlias, assert_never

from attrs import define, field
from bson import ObjectId
from pymongo import UpdateMany, UpdateOne

from pannier.errortext import to_tree
from pannier.instants import round_up
from pannier.records import JobStatus, Lease, Payload
from pannier.settlements import Failed, Release, Retry, Settlement, Succeeded
from pannier_mongo import _queries
from pannier_mongo._connection import Session, Store
from pannier_mongo._documents import RESOLUTION, JobDocument, StoredPayload, from_payload

FENCES: Final = range(1, 2**63)
"""The fences that BSON can hold; a lease with another never was."""

CHUNK: Final = 500
"""Leases in one command of a renewal."""

Write: TypeAlias = UpdateOne | UpdateMany


@define
class Batch:
    """
    Settlements of different leases.

    Attributes:
        given: The settlements, by lease, less those that no job can have.
        refused: Leases that no job can have.
        writes: What is to be written for single jobs, in this order.
        succeeded: Leases of jobs that succeeded without a result: they are all written alike.
        results: The small results of jobs that succeeded, by lease: many are written by one update.
        released: Leases that are given back.
        mark: Tells the jobs that this batch gave back from others: they may have been claimed again by now.
    """

    given: dict[Lease, Settlement] = field(factory=dict[Lease, Settlement])
    refused: set[Lease] = field(factory=set[Lease])
    writes: list[Write] = field(factory=list[Write])
    succeeded: list[Lease] = field(factory=list[Lease])
    results: dict[Lease, StoredPayload] = field(factory=dict[Lease, StoredPayload])
    released: list[Lease] = field(factory=list[Lease])
    mark: ObjectId = field(factory=ObjectId)

    def add(self, settlement: Settlement, now: datetime) -> None:
        """
        Add *settlement*.

        Raises:
            UnstorableError: Its result can't be held.
            ValueError: It is retried after the year 9999.
        """
        lease = settlement.lease
        if lease.fence not in FENCES:
            self.refused.add(lease)
            return
        self.given[lease] = settlement
        match settlement.outcome:
            case Succeeded(result=result):
                if result is None:
                    self.succeeded.append(lease)
                else:
                    self._add_result(lease, from_payload(result, lease.tracking_id), now)
            case Retry(at=at, error=error):
                until, stored = round_up(at, RESOLUTION), to_tree(error)
                # In this order: a job that is retried too late has failed by the second, which finds no lease.
                self.writes.append(UpdateOne(_queries.holding_until(lease, until), _queries.failed(stored, now)))
                self.writes.append(UpdateOne(_queries.holding([lease]), _queries.retried(stored, until, self.mark)))
            case Failed(error=error):
                self.writes.append(UpdateOne(_queries.holding([lease]), _queries.failed(to_tree(error), now)))
            case Release():
                self.released.append(lease)
            case _:
                assert_never(settlement.outcome)

    def all_writes(self, now: datetime) -> list[Write]:
        """Return what is to be written, those that are written alike together."""
        return [
            *self.writes,
            *_with_results(self.results, now),
            *_by_fence(self.succeeded, _queries.succeeded(None, now)),
            *_by_fence(self.released, _queries.released(self.mark)),
        ]

    def _add_result(self, lease: Lease, result: StoredPayload, now: datetime) -> None:
        if "tree" in result:  # of 64 KiB as text, so that an update has room for a portion of them
            self.results[lease] = result
        else:
            self.writes.append(UpdateOne(_queries.holding([lease]), _queries.succeeded(result, now)))

    async def apply(self, store: Store, session: Session | None, now: datetime) -> set[Lease]:
        """Write it; return the refused leases."""
        writes = self.all_writes(now)
        if not writes:
            return set(self.refused)
        done = await store.jobs.bulk_write(writes, session=session)
        if done.matched_count == len(self.given):
            return set(self.refused)
        states = await _states(store, self.given, session)
        return self.refused | {
            lease
            for lease, settlement in self.given.items()
            if not _stands(settlement, states.get(lease.tracking_id), self.mark)
        }


def batches_of(settlements: Iterable[Settlement], now: datetime) -> list[Batch]:
    """
    Sort *settlements* into batches, to be applied one after another: more than one only where a lease comes again.

    Raises:
        UnstorableError: A result can't be held.
    """
    batches = [Batch()]
    for settlement in settlements:
        batch = next((batch for batch in batches if settlement.lease not in batch.given), None)
        if batch is None:
            batches.append(batch := Batch())
        batch.add(settlement, now)
    return batches


async def settle(
    store: Store, batches: Sequence[Batch], now: datetime, session: Session | None = None
) -> frozenset[Lease]:
    """
    Apply *batches*, in the transaction of *session* if there is one; return the refused leases.

    Without one each batch is one command, which the server finishes whatever becomes of its client; each settlement is
    atomic. Differs from the SQL storages, which settle in a transaction: that of a process that was killed would hold
    its jobs for a minute here.
    """
    refused = [await batch.apply(store, session, now) for batch in batches]
    return frozenset().union(*refused)


async def renew(store: Store, leases: Collection[Lease], end: datetime) -> frozenset[Lease]:
    """
    Move the ends of *leases*; return those that no longer stand.

    Whose job an open transaction holds is neither renewed nor lost: somebody is settling it there (R39).
    """
    lost = {lease for lease in leases if lease.fence not in FENCES}
    update = _queries.renewed(end)

    async def renew_part(part: Sequence[Lease], session: Session | None) -> set[Lease]:
        done = await store.jobs.bulk_write(_by_fence(part, update), ordered=False, session=session)
        if done.matched_count == len(part):
            return set()
        states = await _states(store, part, session)
        return {lease for lease in part if not _holds(lease, states.get(lease.tracking_id))}

    standing = sorted(set(leases) - lost, key=attrgetter("tracking_id"))
    for start in range(0, len(standing), CHUNK):
        portion = standing[start : start + CHUNK]
        parts, _ = await store.without_waiting(portion, attrgetter("tracking_id"), renew_part)
        lost = lost.union(*parts)
    return frozenset(lost)


async def store_progress(store: Store, lease: Lease, progress: Payload) -> bool:
    """
    Keep *progress*, if *lease* stands.

    Raises:
        UnstorableError: It can't be held.
    """
    update = _queries.reported(from_payload(progress, lease.tracking_id))
    if lease.fence not in FENCES:
        return False
    return bool((await store.jobs.update_one(_queries.holding([lease]), update)).matched_count)


def _with_results(results: Mapping[Lease, StoredPayload], now: datetime) -> Iterator[Write]:
    """
    Return the writes that end jobs with these results, many in one: half the time that the server takes for one each.

    One job is written for itself: that write the driver tries again where the primary has changed.
    """
    for leases in _alike(results):
        if len(leases) == 1:
            yield UpdateOne(_queries.holding(leases), _queries.succeeded(results[leases[0]], now))
        else:
            by_id = {lease.tracking_id: results[lease] for lease in leases}
            yield UpdateMany(_queries.holding(leases), _queries.succeeded_with(by_id, now))


def _by_fence(leases: Iterable[Lease], update: Mapping[str, object] | Sequence[Mapping[str, object]]) -> list[Write]:
    """Return one write for all *leases* of a fence."""
    return [UpdateMany(_queries.holding(portion), update) for portion in _alike(leases)]


def _alike(leases: Iterable[Lease]) -> Iterator[Sequence[Lease]]:
    """Gather leases of one fence, as many as one filter names."""
    fence = attrgetter("fence")
    for _, alike in groupby(sorted(leases, key=fence), fence):
        yield from _queries.portions(list(alike))


async def _states(store: Store, leases: Iterable[Lease], session: Session | None) -> dict[object, JobDocument]:
    states: dict[object, JobDocument] = {}
    for ids in _queries.lookups(list({lease.tracking_id for lease in leases})):
        found = store.jobs.find(_queries.with_ids(ids), _queries.STATE, session=session)
        states.update({document["_id"]: document async for document in found})
    return states


def _holds(lease: Lease, state: JobDocument | None) -> bool:
    return state is not None and state.get("fence") == lease.fence and state.get("status") == JobStatus.RUNNING


def _stands(settlement: Settlement, state: JobDocument | None, mark: ObjectId) -> bool:
    """Whether the effect of *settlement* stood: it was just applied, or same fence and the status it leads to (R50)."""
    if state is None:
        return False
    if state.get("fence") != settlement.lease.fence:
        return state.get("settled") == {"mark": mark, "fence": settlement.lease.fence}
    match settlement.outcome:
        case Succeeded():
            status = JobStatus.SUCCEEDED
        case Failed():
            status = JobStatus.FAILED
        case Release():
            status = JobStatus.PENDING
        case Retry(at=at):
            expire_on = state.get("expire_on")
            is_late = isinstance(expire_on, datetime) and expire_on <= round_up(at, RESOLUTION)
            status = JobStatus.FAILED if is_late else JobStatus.PENDING
        case _:
            assert_never(settlement.outcome)
    return state.get("status") == status
