"""
The contract's values and verbs as JSON, for test programs that talk to each other.

These are child processes and the loopback server. Everything comes back equal, bytes and exact types included. It is no
storage format.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from attrs import frozen
from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from pannier.claims import Claim, Claimed
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Json, Lease, Payload, StoredResult
from pannier.settlements import Outcome, Settlement

Counts = Mapping[tuple[str, JobStatus], int]


@frozen
class Verb:
    """One method of a storage: the types of its arguments, by name, and of its answer."""

    arguments: Mapping[str, object]
    answer: object


VERBS: Final[Mapping[str, Verb]] = {
    "read_clock": Verb({}, datetime | None),
    "store_jobs": Verb({"jobs": list[JobRecord]}, list[UUID]),
    "claim_jobs": Verb({"claim": Claim}, Claimed),
    "renew_leases": Verb({"leases": list[Lease], "now": datetime, "lease_for": timedelta}, frozenset[Lease]),
    "settle_jobs": Verb({"settlements": list[Settlement], "now": datetime}, frozenset[Lease]),
    "cancel_job": Verb({"tracking_id": UUID, "now": datetime}, Cancellation),
    "get_job": Verb({"tracking_id": UUID}, JobRecord | None),
    "purge_stale_jobs": Verb({"stale": StaleJobs}, Purged),
    "store_progress": Verb({"lease": Lease, "progress": Payload}, bool),
    "get_job_result": Verb({"tracking_id": UUID}, StoredResult | None),
    "find_jobs": Verb({"wanted": JobFilter, "cursor": str | None, "limit": int}, JobPage),
    "count_jobs": Verb({"wanted": JobFilter}, Counts),
    "requeue_job": Verb({"tracking_id": UUID, "now": datetime, "expire_on": datetime | None}, Requeue),
}
"""Every verb that takes and gives plain values; `listen` and the transactional ones do not."""


def encode(value: object, kind: object) -> Json:
    """Return *value*, which is a *kind*, as a JSON tree."""
    tree: Json = _CONVERTER.unstructure(value, unstructure_as=kind)
    return tree


def decode(tree: Json, kind: object) -> Any:  # a caller states what it expects by *kind*
    """Return the *kind* that *tree* stands for."""
    return _CONVERTER.structure(tree, kind)  # type: ignore[arg-type]  # cattrs takes any type form


def encode_arguments(verb: str, arguments: Mapping[str, object]) -> dict[str, Json]:
    """Return a call's *arguments*, by name, as JSON trees."""
    kinds = VERBS[verb].arguments
    return {name: encode(value, kinds[name]) for name, value in arguments.items()}


def decode_arguments(verb: str, arguments: Mapping[str, Json]) -> dict[str, Any]:
    """Return a call's arguments, to be passed by name."""
    kinds = VERBS[verb].arguments
    return {name: decode(tree, kinds[name]) for name, tree in arguments.items()}


def to_line(tree: Json) -> bytes:
    """Return *tree* as one line of JSON. Surrogates are not escaped: JSON takes two in a row for one character."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def from_line(line: bytes | str) -> Json:
    """Return the tree that one line holds."""
    tree: Json = json.loads(line)
    return tree


def _encode_payload(payload: Payload) -> Json:
    if isinstance(payload.data, bytes):
        return {"bytes": base64.b64encode(payload.data).decode(), "encoding": payload.encoding}
    return {"json": payload.data, "encoding": payload.encoding}


def _decode_payload(tree: dict[str, Any], _: object) -> Payload:
    data = base64.b64decode(tree["bytes"]) if "bytes" in tree else tree["json"]
    return Payload(data, tree["encoding"])


def _encode_counts(counts: Counts) -> Json:
    return [[queue_id, status.value, count] for (queue_id, status), count in counts.items()]


def _decode_counts(tree: list[Any], _: object) -> Counts:
    return {(queue_id, JobStatus(status)): count for queue_id, status, count in tree}


def _new_converter() -> Converter:
    converter = Converter(unstruct_collection_overrides={frozenset: list})
    converter.register_unstructure_hook(Payload, _encode_payload)
    converter.register_structure_hook(Payload, _decode_payload)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_unstructure_hook(timedelta, lambda span: span // timedelta(microseconds=1))
    converter.register_structure_hook(timedelta, lambda number, _: timedelta(microseconds=number))
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook_func(lambda kind: kind == Counts, _encode_counts)
    converter.register_structure_hook_func(lambda kind: kind == Counts, _decode_counts)
    configure_tagged_union(Outcome, converter)
    return converter


_CONVERTER: Final = _new_converter()
