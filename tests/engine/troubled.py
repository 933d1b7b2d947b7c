"""A storage in trouble, as users' tests have it, that tells and does what the engine's tests want to know and see."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from pannier.claims import Claim, Claimed, Unreadable
from pannier.records import Lease
from pannier.settlements import Settlement
from pannier.storage import Capabilities
from pannier_testing import Fault, FaultyStorage

__all__ = ["Fault", "TroubledStorage"]

Now: TypeAlias = Callable[[], datetime]


class TroubledStorage(FaultyStorage):
    """
    Keeps what it was asked.

    Attributes:
        claims: What was asked for, in order.
        settlements: What was handed over to be settled, in order; also by calls that failed.
        latest_settlements: What the latest call handed over.
        unreadable: Why what is claimed can't be read; None: it can.
        passes_over: Whether claims take nothing, because somebody else holds all that is due.
        clock: Tells the storage's own clock; None: it has none.
        pushes: Whether it offers the add-on "notify".
    """

    def __init__(self, url: str = "memory://", *, clock: Now | None = None) -> None:
        super().__init__(url)
        self.claims: list[Claim] = []
        self.settlements: list[Settlement] = []
        self.latest_settlements: Sequence[Settlement] = ()
        self.unreadable: str | None = None
        self.passes_over = False
        self.clock = clock
        self.pushes = True

    @property
    def capabilities(self) -> Capabilities:
        withheld = frozenset[str]() if self.pushes else frozenset({"notify"})
        return Capabilities(durable=False, shared=False, atomic_batches=True, withheld=withheld)

    async def read_clock(self) -> datetime | None:
        return await self.troubled("read_clock", self._read_clock)

    async def claim_jobs(self, claim: Claim) -> Claimed:
        self.claims.append(claim)
        if self.passes_over:
            return Claimed(jobs=(), next_due=claim.now)
        claimed = await super().claim_jobs(claim)
        if self.unreadable is None:
            return claimed
        unreadable = tuple(Unreadable(job.lease, job.queue_id, self.unreadable) for job in claimed.jobs)
        return Claimed(jobs=(), unreadable=unreadable, next_due=claimed.next_due)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        self.settlements.extend(settlements)
        self.latest_settlements = settlements
        return await super().settle_jobs(settlements, now=now)

    async def _read_clock(self) -> datetime | None:
        return None if self.clock is None else self.clock()
