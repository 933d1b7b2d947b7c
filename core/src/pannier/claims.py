"""What a worker asks a storage for, `Claim`, and what it gets, `Claimed`."""

from datetime import UTC, datetime, timedelta

from attrs import frozen

from pannier.checks import require, require_int, require_not_negative, require_positive, require_text
from pannier.instants import utc
from pannier.records import JobRecord, Lease


@frozen
class Demand:
    """
    What a claim asks of one queue.

    Attributes:
        queue_ids: The queue's name and its aliases, each once; they share the limit.
        limit: How many jobs at most. 0 takes nothing, but counts for `Claimed.next_due`.
    """

    queue_ids: tuple[str, ...]
    limit: int

    def __attrs_post_init__(self) -> None:
        require(self.queue_ids, tuple, "queue_ids")
        if not self.queue_ids:
            raise ValueError("queue_ids must name at least one queue")
        for queue_id in self.queue_ids:
            require_text(queue_id, "queue_ids")
        require_int(self.limit, "limit", minimum=0)


@frozen(kw_only=True)
class Claim:
    """
    One worker's wish for jobs, over all of its queues.

    Attributes:
        demands: No queue id stands in two of them, or twice in one.
        worker_id: Who asks; stored with each job that it gets.
        now: The instant by which everything is decided; a storage reads no clock of its own (R83).
        lease_for: How long the leases last; more than 0.
        look_ahead: How far into the future `Claimed.next_due` need look; at least 0.
    """

    demands: tuple[Demand, ...]
    worker_id: str
    now: datetime
    lease_for: timedelta
    look_ahead: timedelta

    def __attrs_post_init__(self) -> None:
        require(self.demands, tuple, "demands")
        seen: set[str] = set()
        for demand in self.demands:
            require(demand, Demand, "demands")
            for queue_id in demand.queue_ids:
                if queue_id in seen:
                    raise ValueError(f"demands name the queue {queue_id!r} twice")
                seen.add(queue_id)
        require_text(self.worker_id, "worker_id")
        require_positive(self.lease_for, "lease_for")
        require_not_negative(self.look_ahead, "look_ahead")
        if self.now.__class__ is not datetime or self.now.tzinfo is not UTC:
            object.__setattr__(self, "now", utc(self.now, "now"))


@frozen
class Unreadable:
    """A job that was leased like any other, but whose stored form can't be read (R56). Settle it as `Failed`."""

    lease: Lease
    queue_id: str
    reason: str


@frozen(kw_only=True)
class Claimed:
    """
    What a claim took.

    Attributes:
        jobs: Leased to the claimer, in no promised order.
        unreadable: Leased too, and stopped none of the others.
        next_due: No job of the asked queues that this claim did not return becomes claimable before it; at or before
            the claim's `now`: ask again; None: nothing within `look_ahead` (R121).
    """

    jobs: tuple[JobRecord, ...]
    unreadable: tuple[Unreadable, ...] = ()
    next_due: datetime | None
