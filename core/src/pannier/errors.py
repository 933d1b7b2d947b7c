"""
Every error that pannier raises, grouped by who must act.

`PannierError` is the root. Below it: `ConfigurationError` (whoever starts the program), `UsageError` (the caller),
`StorageError` (whoever operates the storage; `retryable` says whether trying again can help) and `JobNotSucceededError`
(a job's own fate, seen by one who waits for its result). Misses and lost races are return values, not errors.
"""

from datetime import timedelta
from typing import ClassVar
from uuid import UUID

# Plain classes: making them by attrs took a twentieth of the import. What __init__ hands on is what pickle needs.


class PannierError(Exception):
    """The root of everything that pannier raises on purpose."""


class ConfigurationError(PannierError):
    """The program is put together wrongly. Raised while it starts, before any job is touched."""


class UsageError(PannierError):
    """A call cannot be carried out as it was made. Nothing was stored or changed."""


class StorageError(PannierError):
    """
    A storage could not do what it was asked.

    `retryable` tells whether the same call may succeed later, unchanged. What a failed call wrote is said by the
    verb that raised (see `pannier.storage`); repeating it is always safe.
    """

    retryable: ClassVar[bool] = False


class StorageUnavailableError(StorageError):
    """The storage did not answer within its timeout, or the connection broke. The call may or may not have happened."""

    retryable = True


class StorageBusyError(StorageError):
    """Another program held the storage for longer than the timeout. Nothing was written."""

    retryable = True


class StorageConflictError(StorageError):
    """The storage gave this call up for another one (a serialization failure, a deadlock). Nothing was written."""

    retryable = True


class StorageClosedError(StorageError):
    """The storage was used before `open()`, after `close()`, or in a forked child of the process that opened it."""


class StorageRefusedError(StorageError):
    """The storage refuses what pannier needs: a wrong password, a missing right, a full disk, a bad statement."""


class UnstorableError(StorageError):
    """
    A value cannot be held by this storage exactly. Raised before anything of the call is written (R5, R71, R123).

    Attributes:
        tracking_id: The job whose payload or text it is; None where the call names no job (a claim's worker id).
        reason: What cannot be held, without the value itself.
    """

    def __init__(self, tracking_id: UUID | None, reason: str) -> None:
        super().__init__(tracking_id, reason)
        self.tracking_id = tracking_id
        self.reason = reason

    def __str__(self) -> str:
        which = "a value" if self.tracking_id is None else f"job {self.tracking_id}"
        return f"{which} can't be stored: {self.reason}"


class SchemaTooNewError(StorageError):
    """The store was made by a newer pannier that says it is incompatible with this one. Nothing was changed (R115)."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(found, known)
        self.found = found
        self.known = known

    def __str__(self) -> str:
        return (
            f"the store has schema version {self.found}, this adapter knows up to {self.known}; "
            f"upgrade the adapter, or open another store"
        )


class LeaseLostError(StorageError):
    """
    A settlement in the caller's transaction named a lease that no longer stands. Let the transaction roll back (R9).

    Attributes:
        tracking_ids: The jobs whose leases were refused.
    """

    def __init__(self, tracking_ids: tuple[UUID, ...]) -> None:
        super().__init__(tracking_ids)
        self.tracking_ids = tracking_ids

    def __str__(self) -> str:
        names = ", ".join(map(str, self.tracking_ids))
        return f"the lease of {names} no longer stands; roll the transaction back, another attempt owns the job now"


class UnknownSchemeError(ConfigurationError):
    """A storage URL names a scheme that no installed adapter serves. Raised by `Plugins.create_storage`."""

    def __init__(self, scheme: str, installed: tuple[str, ...], package: str | None = None) -> None:
        super().__init__(scheme, installed, package)
        self.scheme = scheme
        self.installed = installed
        self.package = package

    def __str__(self) -> str:
        from difflib import get_close_matches  # noqa: PLC0415  # only somebody who mistyped a scheme pays for it

        close = get_close_matches(self.scheme, self.installed, n=1)
        hint = f"; pip install {self.package}" if self.package else f"; did you mean {close[0]!r}?" if close else ""
        return f"no adapter for {self.scheme!r} (installed: {', '.join(self.installed) or 'none'}){hint}"


class DuplicateSchemeError(ConfigurationError):
    """Two plugins serve one URL scheme. Uninstall one of them."""

    def __init__(self, scheme: str, plugins: tuple[str, ...]) -> None:
        super().__init__(scheme, plugins)
        self.scheme = scheme
        self.plugins = plugins

    def __str__(self) -> str:
        return f"the scheme {self.scheme!r} is served by {' and '.join(map(repr, self.plugins))}; uninstall one of them"


class BrokenPluginError(ConfigurationError):
    """
    A plugin cannot be used. One found by entry point is left out and reported; one that was asked for raises this.

    Attributes:
        plugin: Its name.
        reason: What is wrong with it.
    """

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(plugin, reason)
        self.plugin = plugin
        self.reason = reason

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} can't be used: {self.reason}"


class ContractVersionError(ConfigurationError):
    """An adapter was written for another major version of the storage contract."""

    def __init__(self, adapter: str, declared: str, supported: str) -> None:
        super().__init__(adapter, declared, supported)
        self.adapter = adapter
        self.declared = declared
        self.supported = supported

    def __str__(self) -> str:
        return (
            f"adapter {self.adapter!r} follows contract {self.declared}, this pannier follows {self.supported}; "
            f"install versions of both with the same major contract version"
        )


class UnregisteredCommandError(UsageError):
    """A command was queued, executed or tracked in a `JobQueues` that does not know its class."""

    def __init__(self, command: type, known: tuple[str, ...]) -> None:
        super().__init__(command, known)
        self.command = command
        self.known = known

    def __str__(self) -> str:
        return (
            f"a job queue has not been registered for {self.command.__qualname__!r} "
            f"(registered: {', '.join(self.known) or 'none'}); "
            f"give it a handler with @jobs.handler(), or jobs.declare() it where it is only queued"
        )


class NotSupportedError(UsageError):
    """The storage does not offer the add-on that this call needs, or withholds it on this server."""


class WrongResultTypeError(UsageError):
    """A result was asked for, or stored, as another type than the command declares."""


class NotRunningHereError(UsageError):
    """Progress or a result was stored for a job that the calling code is not executing."""


class InvalidJobError(UsageError, ValueError):
    """A job cannot be queued as asked: a naive datetime, an `expire_on` not after `execute_after`, a bad priority."""


class EncodingError(UsageError, ValueError):
    """A command, result or progress cannot be turned into a payload."""


class DecodingError(PannierError):
    """A payload cannot be turned back into its declared type. The job is kept as FAILED, with the reason (E8)."""


class JobNotSucceededError(PannierError):
    """A job that was waited for did not succeed."""

    def __init__(self, tracking_id: UUID, *more: object) -> None:
        super().__init__(tracking_id, *more)
        self.tracking_id = tracking_id

    def __str__(self) -> str:
        return f"job {self.tracking_id} did not succeed"


class JobNotFoundError(JobNotSucceededError):
    """No job has this tracking id; it was never queued here, or its retention is over."""

    def __str__(self) -> str:
        return f"no job {self.tracking_id}: never queued in this storage, or purged after its retention"


class JobCancelledError(JobNotSucceededError):
    """The job was cancelled."""

    def __str__(self) -> str:
        return f"job {self.tracking_id} was cancelled"


class JobExpiredError(JobNotSucceededError):
    """The job was not started, or not finished, before its `expire_on`."""

    def __str__(self) -> str:
        return f"job {self.tracking_id} expired before it could be run to its end"


class JobFailedError(JobNotSucceededError):
    """
    The job failed for good. The text is the handler's own; the original exception object stays in its process.

    Attributes:
        kind: The exception's qualified type name.
        message: Its message.
        traceback: Its traceback text.
    """

    def __init__(self, tracking_id: UUID, kind: str, message: str, traceback: str) -> None:
        super().__init__(tracking_id, kind, message, traceback)
        self.kind = kind
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"job {self.tracking_id} failed: {self.kind}: {self.message}"


class TimeLimitExceededError(PannierError):
    """A handler ran past its time limit. The attempt fails with this (E3)."""

    def __init__(self, time_limit: timedelta) -> None:
        super().__init__(time_limit)
        self.time_limit = time_limit

    def __str__(self) -> str:
        return f"the handler ran past its time limit of {self.time_limit.total_seconds():g} s"
