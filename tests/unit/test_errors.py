"""Errors: who must act, whether trying again can help, and what the message says."""

import pickle
from datetime import timedelta
from uuid import UUID

import pytest

from pannier import errors
from pannier.errors import (
    ConfigurationError,
    ContractVersionError,
    DuplicateSchemeError,
    JobFailedError,
    JobNotFoundError,
    LeaseLostError,
    PannierError,
    SchemaTooNewError,
    StorageBusyError,
    StorageConflictError,
    StorageError,
    StorageUnavailableError,
    TimeLimitExceededError,
    UnknownSchemeError,
    UnregisteredCommandError,
    UnstorableError,
)

ID = UUID(int=7)
ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PannierError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_is_named_so_and_says_what_it_means(kind: type[PannierError]) -> None:
    """One hierarchy; its names end in Error."""
    assert kind.__name__.endswith("Error")
    assert kind.__doc__


def test_only_what_may_pass_is_retryable() -> None:
    """An unavailable, a busy, a conflicting storage; nothing else."""
    storage_errors = [kind for kind in ALL if issubclass(kind, StorageError)]
    retryable = {kind for kind in storage_errors if kind.retryable}
    assert retryable == {StorageUnavailableError, StorageBusyError, StorageConflictError}


TEXTS: list[tuple[PannierError, str]] = [
    (
        UnknownSchemeError("sqlit", ("memory", "sqlite")),
        "no adapter for 'sqlit' (installed: memory, sqlite); did you mean 'sqlite'?",
    ),
    (
        UnknownSchemeError("postgresql", ("memory",), "pannier-postgres"),
        "no adapter for 'postgresql' (installed: memory); pip install pannier-postgres",
    ),
    (UnknownSchemeError("carrier-pigeon", ()), "no adapter for 'carrier-pigeon' (installed: none)"),
    (
        DuplicateSchemeError("x", ("one", "two")),
        "the scheme 'x' is served by 'one' and 'two'; uninstall one of them",
    ),
    (
        ContractVersionError("old", "0.9", "1.0"),
        "adapter 'old' follows contract 0.9, this pannier follows 1.0; "
        "install versions of both with the same major contract version",
    ),
    (
        SchemaTooNewError(5, 3),
        "the store has schema version 5, this adapter knows up to 3; upgrade the adapter, or open another store",
    ),
    (UnstorableError(ID, "too large"), f"job {ID} can't be stored: too large"),
    (UnstorableError(None, "too large"), "a value can't be stored: too large"),
    (
        LeaseLostError((ID,)),
        f"the lease of {ID} no longer stands; roll the transaction back, another attempt owns the job now",
    ),
    (
        UnregisteredCommandError(int, ("Resize",)),
        "a job queue has not been registered for 'int' (registered: Resize); "
        "give it a handler with @jobs.handler(), or jobs.declare() it where it is only queued",
    ),
    (JobNotFoundError(ID), f"no job {ID}: never queued in this storage, or purged after its retention"),
    (JobFailedError(ID, "ValueError", "no", "Traceback"), f"job {ID} failed: ValueError: no"),
    (TimeLimitExceededError(timedelta(seconds=1.5)), "the handler ran past its time limit of 1.5 s"),
]


def name_of(value: object) -> str:
    """Name a case after its error."""
    return type(value).__name__ if isinstance(value, Exception) else ""


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=name_of)
def test_a_message_says_what_and_which_and_what_to_do(error: PannierError, text: str) -> None:
    """Worded in one place, from the error's data."""
    assert str(error) == text


@pytest.mark.parametrize("error", [error for error, _ in TEXTS], ids=name_of)
def test_an_error_survives_another_process(error: PannierError) -> None:
    """A pool of processes pickles what its functions raise."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_who_starts_the_program_is_told_apart_from_who_calls() -> None:
    """One except clause for each of them."""
    assert issubclass(UnknownSchemeError, ConfigurationError)
    assert not issubclass(UnregisteredCommandError, ConfigurationError)
