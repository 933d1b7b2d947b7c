"""Push hints of the add-on "notify"."""

from enum import StrEnum
from uuid import UUID

from attrs import frozen


class NoticeKind(StrEnum):
    """What a push hint speaks of. MISSED: reconnected, or a change that can't be named: look for yourself (R124)."""

    QUEUED = "queued"
    CANCELLED = "cancelled"
    FINISHED = "finished"
    MISSED = "missed"


@frozen
class Notice:
    """A push hint. Correctness never needs one (R124)."""

    kind: NoticeKind
    queue_id: str
    tracking_id: UUID | None = None
