"""
The errors of attempts as JSON trees and as JSON text, for storages that keep them so.

Times are ISO 8601, for people to read.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, cast

from pannier import jsontext
from pannier.records import JobError, Json


class StoredError(TypedDict):
    """The error of an attempt as a JSON tree. Its time is ISO 8601, to the microsecond."""

    attempt: int
    at: str
    kind: str
    message: str
    traceback: str


def dump_error(error: JobError) -> str:
    """Write one *error*."""
    return jsontext.dump(cast("Json", to_tree(error)))


def dump_errors(errors: Sequence[JobError]) -> str:
    """Write *errors*, in their order."""
    return jsontext.dump(cast("Json", list(map(to_tree, errors))))


def load_errors(text: str) -> tuple[JobError, ...]:
    """
    Read what `dump_errors` wrote.

    Raises:
        ValueError, TypeError, KeyError: It was damaged by another hand.
    """
    return tuple(map(from_tree, cast("list[StoredError]", jsontext.load(text))))


def to_tree(error: JobError) -> StoredError:
    """Return *error* as a JSON tree."""
    return {
        "attempt": error.attempt,
        "at": error.at.isoformat(),
        "kind": error.kind,
        "message": error.message,
        "traceback": error.traceback,
    }


def from_tree(stored: StoredError) -> JobError:
    """
    Return the error that `to_tree` wrote.

    Raises:
        ValueError, TypeError, KeyError: It was damaged by another hand.
    """
    return JobError(
        attempt=stored["attempt"],
        at=datetime.fromisoformat(stored["at"]),
        kind=stored["kind"],
        message=stored["message"],
        traceback=stored["traceback"],
    )
