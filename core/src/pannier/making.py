"""Making jobs: from a command and the caller's wishes to the record that is stored."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal, TypeAlias

from attrs import frozen

from pannier.codec import Codec
from pannier.commands import Command, set_tracking_id
from pannier.errors import InvalidJobError, UsageError
from pannier.ids import TrackingIds
from pannier.instants import MICROSECOND, round_down, round_up
from pannier.options import QueueOptions
from pannier.records import JobRecord
from pannier.registry import Registration


class Expiry(Enum):
    """The expiry of a job for which the caller names none."""

    DEFAULT = "default"
    """As long after `execute_after` as the queue's `expire_after` says: 4 hours unless configured otherwise."""


ExpireOn: TypeAlias = datetime | Literal[Expiry.DEFAULT] | None
"""When a job expires; None: never."""


@frozen(kw_only=True)
class JobMaker:
    """
    Makes the jobs of one `JobQueues`.

    Attributes:
        ids: Where tracking ids come from.
        codec: For commands that bring none of their own.
        defaults: The options of queues that say nothing else.
        metadata: What plugins keep beside the job of a command.
    """

    ids: TrackingIds
    codec: Codec
    defaults: QueueOptions
    metadata: Callable[[Command[object]], Mapping[str, str]]

    def make(
        self,
        command: Command[object],
        registration: Registration,
        *,
        now: datetime,
        resolution: timedelta,
        execute_after: datetime | None,
        expire_on: ExpireOn,
        priority: int,
        idempotency_key: str | None,
        metadata: Mapping[str, str] | None,
    ) -> JobRecord:
        """
        Make the job of *command*; its instants lie on the grid of *resolution*, so that the storage alters none.

        Raises:
            InvalidJobError: It can't be queued as asked.
            EncodingError: The command can't be encoded.
        """
        if execute_after is not None:
            _check_datetime(execute_after, "execute_after")
        if not (expire_on is None or expire_on is Expiry.DEFAULT):
            _check_datetime(expire_on, "expire_on")
        tracking_id = self.ids.new()
        set_tracking_id(command, tracking_id)
        if idempotency_key is None and registration.key is not None:
            idempotency_key = registration.key(command)
        starts = now if execute_after is None else execute_after
        try:
            return JobRecord(
                tracking_id=tracking_id,
                queue_id=registration.queue_id,
                command=(registration.codec or self.codec).encode(command, registration.command),
                execute_after=_rounded_up(starts, resolution),
                expire_on=self._expiry(expire_on, starts, registration, resolution),
                created_at=now,
                priority=priority,
                idempotency_key=idempotency_key,
                metadata={**self.metadata(command), **(metadata or {})},
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise InvalidJobError(f"{registration.command.__qualname__} can't be queued: {error}") from error

    def _expiry(
        self, expire_on: ExpireOn, starts: datetime, registration: Registration, resolution: timedelta
    ) -> datetime | None:
        if expire_on is None:
            return None
        if expire_on is Expiry.DEFAULT:
            span = registration.expire_after(self.defaults)
            try:
                expire_on = None if span is None else starts + span
            except OverflowError:
                expire_on = None  # it starts at the end of time
        if expire_on is None or expire_on.tzinfo is None or resolution <= MICROSECOND:
            return expire_on
        return round_down(expire_on, resolution)


def _check_datetime(given: object, name: str) -> None:
    if not isinstance(given, datetime):
        raise InvalidJobError(f"{name} must be a datetime, not {type(given).__name__}")


def _rounded_up(at: datetime, resolution: timedelta) -> datetime:
    return at if resolution <= MICROSECOND or at.tzinfo is None else round_up(at, resolution)
