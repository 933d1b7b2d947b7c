"""
A job as bytes and back: JSON text, exact or refused.

The command has bytes of its own. It never changes, so that a claim need not write it again, and a command that can't be
read any more leaves its record readable.
"""

from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from attrs import evolve
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override
from pannier.storage import JobRecord, Payload, UnstorableError, from_microseconds, jsontext, to_microseconds

# Stands in a record whose command was not read.
LEFT_OUT: Final = Payload(None)


def dump_record(job: JobRecord, *, over: bytes = b"{}") -> bytes:
    """
    Write *job* but for its command, over what stood there: a field that only a newer version knows is kept.

    Raises:
        UnstorableError: A text or payload of it can't be held.
    """
    return _dump({**_load(over), **_converter.unstructure(job)}, job.tracking_id)


def load_record(written: bytes) -> JobRecord:
    """Read what `dump_record` wrote, with the command left out."""
    return _converter.structure({**_load(written), "command": _plain(LEFT_OUT)}, JobRecord)


def dump_command(job: JobRecord) -> bytes:
    """
    Write the command of *job*.

    Raises:
        UnstorableError: It can't be held.
    """
    return _dump(_plain(job.command), job.tracking_id)


def load_command(written: bytes) -> Payload:
    """
    Read what `dump_command` wrote.

    Raises:
        ValueError: It was damaged.
    """
    try:
        return _payload(_load(written), Payload)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the command is damaged: {error!r}") from error


def with_command(job: JobRecord, written: bytes) -> JobRecord:
    """Return *job* with its command, or with the damaged bytes that stand there, as they are."""
    try:
        return evolve(job, command=load_command(written))
    except ValueError:
        return evolve(job, command=Payload(written, "unreadable"))


def _dump(tree: Any, tracking_id: UUID) -> bytes:
    try:
        return jsontext.dump(tree).encode()
    except ValueError as error:
        raise UnstorableError(tracking_id, str(error)) from error


def _load(written: bytes) -> Any:
    return jsontext.load(written.decode())


def _plain(payload: Payload) -> dict[str, Any]:
    if isinstance(payload.data, bytes):
        return {"encoding": payload.encoding, "base64": b64encode(payload.data).decode("ascii")}
    return {"encoding": payload.encoding, "json": payload.data}


def _payload(plain: dict[str, Any], _: type) -> Payload:
    if "base64" in plain:
        return Payload(b64decode(plain["base64"], validate=True), plain["encoding"])
    return Payload(plain["json"], plain["encoding"])


def _make_converter() -> Converter:
    converter = Converter()
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook(datetime, to_microseconds)
    converter.register_structure_hook(datetime, lambda microseconds, _: from_microseconds(microseconds))
    converter.register_unstructure_hook(Payload, _plain)
    converter.register_structure_hook(Payload, _payload)
    but_for_its_command = make_dict_unstructure_fn(JobRecord, converter, command=override(omit=True))
    converter.register_unstructure_hook(JobRecord, but_for_its_command)
    return converter


_converter: Final = _make_converter()
