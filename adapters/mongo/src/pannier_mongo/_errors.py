"""Driver errors, translated in one place. What the server adds to its messages may quote values, so it is left out."""

from typing import Final

from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)

from pannier.errors import (
    ConfigurationError,
    PannierError,
    StorageClosedError,
    StorageConflictError,
    StorageRefusedError,
    StorageUnavailableError,
)

DUPLICATE_KEY: Final = 11000

_AUTHENTICATION: Final = frozenset({18, 8000})  # AuthenticationFailed, and Atlas's own
_RIGHTS: Final = frozenset({13, 31, 33})
_WRITE_CONFLICT: Final = frozenset(
    {112, 117, 251, 24}
)  # conflict, ConflictingOperation, NoSuchTransaction, LockTimeout
_TIME_LIMIT: Final = frozenset({50, 202, 262})  # MaxTimeMSExpired, NetworkInterfaceExceededTimeLimit, ExceededTimeLimit
_NOT_PRIMARY: Final = frozenset({91, 189, 10058, 10107, 11600, 11602, 13435, 13436, 6, 7, 89, 9001, 64, 100, 133, 134})
"""Shutting down, stepping down, not primary, host not reachable, and write concerns that can't be met for now."""


def translated(error: PyMongoError, shown: str) -> PannierError:
    """Return the error of pannier that says what *error* says about the storage *shown*, and what to do."""
    match error:
        case WaitQueueTimeoutError():
            return StorageUnavailableError(f"{shown}: no connection was free in time; raise maxPoolSize or timeout")
        case OperationFailure():
            return _refusal(error, shown)
        case ConnectionFailure():
            return StorageUnavailableError(
                f"{shown} can't be reached, or has cut the connection ({type(error).__name__}); check that it runs, "
                f"that a replica set has a primary, or raise timeout"
            )
        case DriverConfigurationError():
            return ConfigurationError(f"{shown} can't be used: {type(error).__name__}; check hosts and options")
        case InvalidOperation() if "close" in str(error):
            return StorageClosedError(f"{shown} was closed meanwhile")
        case _ if error.timeout:
            return late(shown)
        case _:
            return StorageRefusedError(f"{shown}: the driver refuses: {type(error).__name__}")


def late(shown: str) -> StorageUnavailableError:
    """Return the error of a call that took longer than it may."""
    return StorageUnavailableError(f"{shown} did not answer in time; check that it runs, or raise timeout")


def _refusal(error: OperationFailure, shown: str) -> PannierError:
    code = _code(error)
    if code in _AUTHENTICATION:
        return StorageRefusedError(f"{shown} refuses the user or the password; correct the URL, or its authSource")
    if code in _RIGHTS:
        return StorageRefusedError(f"{shown}: the user lacks a right; grant him readWrite on the database")
    if code in _TIME_LIMIT or error.timeout:
        return StorageUnavailableError(
            f"{shown} did not finish in time: it is overloaded, or another transaction holds what was needed; end "
            f"that, or raise timeout"
        )
    if code in _NOT_PRIMARY or error.has_error_label("RetryableWriteError"):
        return StorageUnavailableError(f"{shown} has no primary at the moment (error {code}); it elects one, try again")
    if code in _WRITE_CONFLICT or error.has_error_label("TransientTransactionError"):
        return StorageConflictError(f"{shown} gave this call up in favour of another one; try again")
    if code == 14031:
        return StorageRefusedError(f"{shown}: the server lacks disk; give it more")
    return StorageRefusedError(f"{shown} refuses the operation, error {code}: {type(error).__name__}")


def _code(error: OperationFailure) -> int | None:
    """Return what went wrong; of several writes, with the first that did, or with its acknowledgement."""
    if not isinstance(error, BulkWriteError):
        return error.code
    faults = [*error.details["writeErrors"], *error.details["writeConcernErrors"]]
    return next((fault["code"] for fault in faults if fault["code"] != DUPLICATE_KEY), error.code)
