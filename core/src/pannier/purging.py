"""What a purge step is asked, `StaleJobs`, and what it answers, `Purged`."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import frozen

from pannier.checks import require, require_int, require_not_negative, require_queue_ids
from pannier.instants import utc
from pannier.records import COMPLETE, JobStatus


@frozen(kw_only=True)
class StaleJobs:
    """
    What a purge step ends and deletes.

    Attributes:
        now: The instant by which everything is decided.
        keep: For each complete status how long such jobs are kept, counted from `finished_at`; a status that is
            absent is kept for ever (R72).
        queue_ids: Only these queues; None: all.
        limit: At most so many are marked EXPIRED and at most so many deleted; at least 1.
    """

    now: datetime
    keep: Mapping[JobStatus, timedelta]
    queue_ids: frozenset[str] | None = None
    limit: int = 1000

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "now", utc(self.now, "now"))
        require(self.keep, Mapping, "keep")
        for status, age in self.keep.items():
            if status not in COMPLETE:
                raise ValueError(f"keep names {status!r}; only a complete status has a retention")
            require_not_negative(age, f"keep[{status!r}]")
        object.__setattr__(self, "keep", {JobStatus(status): age for status, age in self.keep.items()})
        require_queue_ids(self.queue_ids)
        require_int(self.limit, "limit", minimum=1)


@frozen
class Purged:
    """How many jobs a purge step marked EXPIRED and how many it deleted, exactly (R74)."""

    expired: int
    deleted: int
