"""Making jobs: from a command and the caller's wishes to the record that is stored."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal, TypeAlias
from uuid import UUID

from attrs import frozen

from pannier.checks import plain_metadata, require
from pannier.codec import Codec
from pannier.commands import Command, set_tracking_id
from pannier.errors import InvalidJobError, UsageError
from pannier.ids import TrackingIds
from pannier.instants import MICROSECOND, round_down, round_up
from pannier.options import QueueOptions
from pannier.records import JobRecord, Payload
from pannier.registry import Registration
from pannier.restoring import change_job


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
        tracking_id: UUID | None = None,
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
        if tracking_id is None:
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
        except UsageError:
            raise
        except (TypeError, ValueError) as error:
            raise _invalid(registration, error) from error

    def make_many(
        self,
        commands: Sequence[Command[object]],
        registered: Callable[[type], Registration],
        *,
        now: datetime,
        resolution: timedelta,
        execute_after: datetime | None,
        expire_on: ExpireOn,
        priority: int,
        metadata: Mapping[str, str] | None,
    ) -> list[JobRecord]:
        """
        Make the jobs of *commands*, each as `make` would, but all at one instant. Raises as that does.

        The first job of a command's class is made in full, and the others after it: 4 us a job instead of 10. Where a
        selector gives each a key of its own, every job is made in full.
        """
        models: dict[type, tuple[JobRecord, Registration]] = {}
        made: list[JobRecord] = []
        for command, tracking_id in zip(commands, self.ids.many(len(commands)), strict=True):
            known = models.get(type(command))
            if known is not None:
                made.append(self._make_alike(command, tracking_id, *known, metadata=metadata))
                continue
            registration = registered(type(command))
            job = self.make(
                command,
                registration,
                now=now,
                resolution=resolution,
                execute_after=execute_after,
                expire_on=expire_on,
                priority=priority,
                idempotency_key=None,
                metadata=metadata,
                tracking_id=tracking_id,
            )
            if registration.key is None:
                models[type(command)] = job, registration
            made.append(job)
        return made

    def _make_alike(
        self,
        command: Command[object],
        tracking_id: UUID,
        model: JobRecord,
        registration: Registration,
        *,
        metadata: Mapping[str, str] | None,
    ) -> JobRecord:
        """Make a job that differs from *model* in nothing but what is made and checked here."""
        set_tracking_id(command, tracking_id)
        try:
            encoded = (registration.codec or self.codec).encode(command, registration.command)
            require(encoded, Payload, "command")
            own = plain_metadata({**self.metadata(command), **(metadata or {})})
        except UsageError:
            raise
        except (TypeError, ValueError) as error:
            raise _invalid(registration, error) from error
        return change_job(model, {"tracking_id": tracking_id, "command": encoded, "metadata": own})

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


def _invalid(registration: Registration, error: Exception) -> InvalidJobError:
    return InvalidJobError(f"{registration.command.__qualname__} can't be queued: {error}")


def _check_datetime(given: object, name: str) -> None:
    if not isinstance(given, datetime):
        raise InvalidJobError(f"{name} must be a datetime, not {type(given).__name__}")


def _rounded_up(at: datetime, resolution: timedelta) -> datetime:
    return at if resolution <= MICROSECOND or at.tzinfo is None else round_up(at, resolution)
