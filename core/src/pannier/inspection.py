"""What the add-on "inspect" is asked and answers."""

from collections.abc import Mapping
from enum import StrEnum

from attrs import field, frozen

from pannier.checks import plain_metadata, require, require_queue_ids
from pannier.records import NO_METADATA, JobRecord, JobStatus


class Requeue(StrEnum):
    """What became of a request to requeue (R78)."""

    REQUEUED = "requeued"
    NOT_COMPLETE = "not_complete"
    ALREADY_SUCCEEDED = "already_succeeded"
    NOT_FOUND = "not_found"


@frozen(kw_only=True)
class JobFilter:
    """
    Which jobs to find or count: those that meet every condition given.

    Attributes:
        queue_ids: In one of these queues; None: any. An empty set matches nothing.
        statuses: In one of these; None: any. An empty set matches nothing.
        metadata: Having each of these entries.
    """

    queue_ids: frozenset[str] | None = None
    statuses: frozenset[JobStatus] | None = None
    metadata: Mapping[str, str] = field(default=NO_METADATA, converter=plain_metadata)

    def __attrs_post_init__(self) -> None:
        require_queue_ids(self.queue_ids)
        if self.statuses is not None:
            require(self.statuses, frozenset, "statuses")
            try:
                object.__setattr__(self, "statuses", frozenset(map(JobStatus, self.statuses)))
            except ValueError as error:
                raise ValueError(f"statuses holds what is no status: {error}") from None


@frozen
class JobPage:
    """One page of a listing. `cursor` continues it; None: there is no more."""

    jobs: tuple[JobRecord, ...]
    cursor: str | None
