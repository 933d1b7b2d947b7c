"""
Payloads as the store keeps them: trees as JSON text, so that nothing is shared with a caller (R3).

Text is one object where a tree is many: the garbage collector has little to visit in a large store.
"""

from typing import Final
from uuid import UUID

from pannier import jsontext
from pannier.errors import UnstorableError
from pannier.records import JobRecord, Payload, Settlement, Succeeded
from pannier.transitions import with_payloads

_MARK: Final = "json text\0"
"""Before the encoding of a payload whose tree is kept as text; no codec's encoding holds a NUL."""

_IMMUTABLE: Final = frozenset({bytes, str, int, float, bool, type(None)})


def freeze(payload: Payload, tracking_id: UUID) -> Payload:
    """
    Return *payload* in the form that is kept.

    Raises:
        UnstorableError: Its tree can't be written as JSON.
    """
    if type(payload.data) in _IMMUTABLE:
        return payload
    try:
        text = jsontext.dump(payload.data)  # type: ignore[arg-type]  # bytes are immutable
    except ValueError as error:
        raise UnstorableError(tracking_id, str(error)) from error
    return Payload(text, _MARK + payload.encoding)


def thaw(payload: Payload) -> Payload:
    """Return the payload that was frozen, its tree made anew."""
    if not payload.encoding.startswith(_MARK):
        return payload
    return Payload(jsontext.load(str(payload.data)), payload.encoding[len(_MARK) :])


def freeze_job(job: JobRecord) -> JobRecord:
    """Return a new *job* in the form that is kept. Raises UnstorableError."""
    return with_payloads(job, command=freeze(job.command, job.tracking_id), progress=None, result=None)


def thaw_job(job: JobRecord) -> JobRecord:
    """Return a kept *job* in a form that shares nothing with the store."""
    return with_payloads(
        job,
        command=thaw(job.command),
        progress=None if job.progress is None else thaw(job.progress),
        result=None if job.result is None else thaw(job.result),
    )


def freeze_settlement(settlement: Settlement) -> Settlement:
    """Return *settlement* with its result in the form that is kept. Raises UnstorableError."""
    match settlement.outcome:
        case Succeeded(result=Payload() as result) if type(result.data) not in _IMMUTABLE:
            return Settlement(settlement.lease, Succeeded(freeze(result, settlement.lease.tracking_id)))
        case _:
            return settlement
