"""The errors of attempts as JSON text, for storages that keep them so. Times are ISO 8601, for people to read."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, cast

from pannier import jsontext
from pannier.records import JobError, Json


class _StoredError(TypedDict):
    attempt: int
    at: str
    kind: str
    message: str
    traceback: str


def dump_error(error: JobError) -> str:
    """Write one *error*."""
    return jsontext.dump(_tree(error))


def dump_errors(errors: Sequence[JobError]) -> str:
    """Write *errors*, in their order."""
    return jsontext.dump([_tree(error) for error in errors])


def load_errors(text: str) -> tuple[JobError, ...]:
    """
    Read what `dump_errors` wrote.

    Raises:
        ValueError, TypeError, KeyError: It was damaged by another hand.
    """
    stored = cast("list[_StoredError]", jsontext.load(text))
    return tuple(
        JobError(
            attempt=error["attempt"],
            at=datetime.fromisoformat(error["at"]),
            kind=error["kind"],
            message=error["message"],
            traceback=error["traceback"],
        )
        for error in stored
    )


def _tree(error: JobError) -> Json:
    return {
        "attempt": error.attempt,
        "at": error.at.isoformat(),
        "kind": error.kind,
        "message": error.message,
        "traceback": error.traceback,
    }
