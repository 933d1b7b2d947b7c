"""How an attempt ends: its outcome, and the settlement that tells the storage."""

from datetime import datetime
from typing import Final, TypeAlias

from attrs import frozen

from pannier.checks import require
from pannier.instants import utc
from pannier.records import JobError, Lease, Payload


@frozen
class Succeeded:
    """The attempt succeeded. `result` None: the command has none, or it is not kept."""

    result: Payload | None = None

    def __attrs_post_init__(self) -> None:
        if self.result is not None:
            require(self.result, Payload, "result")


@frozen
class Retry:
    """The attempt failed; try again at `at`. At or after the job's `expire_on` it is applied as `Failed` (R58)."""

    at: datetime
    error: JobError

    def __attrs_post_init__(self) -> None:
        require(self.error, JobError, "error")
        object.__setattr__(self, "at", utc(self.at, "at"))


@frozen
class Failed:
    """The attempt failed for good. The job is kept, can be inspected and requeued (R55)."""

    error: JobError

    def __attrs_post_init__(self) -> None:
        require(self.error, JobError, "error")


@frozen
class Release:
    """The attempt is given back unused: pending again at once, in its old place, not counted (R59)."""


Outcome: TypeAlias = Succeeded | Retry | Failed | Release
_OUTCOMES: Final = (Succeeded, Retry, Failed, Release)


@frozen
class Settlement:
    """What became of one attempt."""

    lease: Lease
    outcome: Outcome

    def __attrs_post_init__(self) -> None:
        if type(self.lease) is not Lease:
            require(self.lease, Lease, "lease")
        if not isinstance(self.outcome, _OUTCOMES):
            raise TypeError(f"outcome must be Succeeded, Retry, Failed or Release, not {type(self.outcome).__name__}")


# As in `restoring`: the classes are frozen, and this is how their slots are written soonest.
_new: Final = object.__new__
_set_result: Final = Succeeded.__dict__["result"].__set__
_set_lease: Final = Settlement.__dict__["lease"].__set__
_set_outcome: Final = Settlement.__dict__["outcome"].__set__


def restore_success(result: Payload) -> Succeeded:
    """Return the outcome of an attempt that has come to *result*, unchecked, as the functions of `restoring` do."""
    success = _new(Succeeded)
    _set_result(success, result)
    return success


def restore_settlement(lease: Lease, outcome: Outcome) -> Settlement:
    """Return the settlement of *lease*, unchecked likewise."""
    settlement = _new(Settlement)
    _set_lease(settlement, lease)
    _set_outcome(settlement, outcome)
    return settlement
