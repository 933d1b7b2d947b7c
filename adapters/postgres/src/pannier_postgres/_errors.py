"""Driver errors, translated in one place. What the server adds to its messages may quote values, so it is left out."""

import ssl
from typing import Final

import asyncpg

from pannier.errors import (
    ConfigurationError,
    PannierError,
    StorageBusyError,
    StorageConflictError,
    StorageRefusedError,
    StorageUnavailableError,
)

LOST: Final = (
    OSError,  # TimeoutError and ConnectionError are among them
    EOFError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, after a failover: a new connection may find the new primary
    asyncpg.exceptions.InternalClientError,
)
"""The connection is lost, or leads to the wrong server."""

DRIVER_ERRORS: Final = (*LOST, asyncpg.PostgresError, asyncpg.InterfaceError)
"""Whatever asyncpg raises of its own."""


def translated(error: Exception, shown: str) -> PannierError | ValueError:
    """Return the error of pannier that says what *error* says about the storage *shown*, and what to do."""
    match error:
        case asyncpg.exceptions.ClientConfigurationError():
            return ConfigurationError(f"{shown} can't be used: check host, port and TLS options")
        case asyncpg.DataError():  # most often the driver's own, before anything was sent
            return ValueError("an argument has a type or a size that PostgreSQL can't hold")
        case TimeoutError():
            return StorageUnavailableError(f"{shown} did not answer in time; check that it runs, or raise timeout")
        case ssl.SSLCertVerificationError():
            return StorageRefusedError(
                f"{shown}: its certificate is not to be trusted ({error.verify_message}); correct the server's "
                f"certificate, or sslrootcert and sslmode in the URL"
            )
        case ConnectionError() if "rejected SSL" in str(error):
            return StorageRefusedError(f"{shown} offers no TLS; switch ssl on at the server, or correct sslmode")
        case asyncpg.ReadOnlySQLTransactionError():
            return StorageUnavailableError(
                f"{shown} is read-only: a standby, or a primary that was made so; connect to the primary, "
                f"with several hosts in the URL by target_session_attrs=read-write"
            )
        case asyncpg.TooManyConnectionsError():
            return StorageUnavailableError(
                f"{shown} has no connection left; lower connections in the URL, raise max_connections there, "
                f"or use a pooler"
            )
        case asyncpg.PostgresError() if not isinstance(error, LOST):
            return _refusal(error, shown)
        case asyncpg.InterfaceError() if "closed" not in str(error):
            return StorageRefusedError(f"{shown}: the driver refuses: {error}")
        case _:
            return StorageUnavailableError(
                f"{shown} can't be reached, or has cut the connection ({type(error).__name__}); check that it runs"
            )


def busy(shown: str) -> StorageBusyError:
    """Return the error of a call that waited for too long while the server was there."""
    return StorageBusyError(
        f"{shown}: another transaction held what was needed for longer than timeout, or the server is overloaded; "
        f"end that transaction, or raise timeout"
    )


def _refusal(error: asyncpg.PostgresError, shown: str) -> PannierError:
    match error:
        case asyncpg.LockNotAvailableError() | asyncpg.QueryCanceledError():
            return busy(shown)
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return StorageConflictError(f"{shown} gave this call up in favour of another one; try again")
        case asyncpg.InvalidAuthorizationSpecificationError():
            return StorageRefusedError(f"{shown} refuses the role or its password; correct the URL, or pg_hba.conf")
        case asyncpg.InvalidCatalogNameError():
            return StorageRefusedError(f"{shown}: there is no such database; create it, or correct the URL")
        case asyncpg.InsufficientPrivilegeError():
            return StorageRefusedError(
                f"{shown}: the role lacks a right ({_message(error)}); grant CREATE on the database, or create the "
                f"schema and make the role its owner"
            )
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError() | asyncpg.InvalidSchemaNameError():
            return StorageRefusedError(
                f"{shown}: a part of the schema is gone ({_message(error)}); restore it, or drop the whole schema and "
                f"open the storage again"
            )
        case asyncpg.InsufficientResourcesError():
            return StorageRefusedError(f"{shown}: the server lacks disk or memory ({_message(error)}); give it more")
        case _:
            return StorageRefusedError(f"{shown} refuses the statement, error {error.sqlstate}: {type(error).__name__}")


def _message(error: asyncpg.PostgresError) -> str:
    """Return the server's own words, which in these cases name objects of the schema only."""
    return str(error.as_dict().get("message", type(error).__name__))
