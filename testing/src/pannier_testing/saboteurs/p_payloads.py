"""Storages and values that break a rule of section P."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from math import isfinite
from uuid import UUID

from attrs import evolve, frozen

from pannier import storage as r
from pannier.errors import UnstorableError
from pannier.records import JobRecord, Json, Lease, Payload
from pannier.settlements import Settlement, Succeeded
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_model, on_reference, on_values


class AltersPayloads(Model):
    """Keeps commands, progress and results as `spoil` makes them."""

    def store_one(self, job: JobRecord) -> UUID:
        """Spoil the command."""
        return super().store_one(evolve(job, command=self._spoilt(job.command)))

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Spoil progress."""
        return super().report(lease, self._spoilt(progress))

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Spoil the result."""
        after = super().settled(job, outcome, now)
        return after if after.result is None else evolve(after, result=self._spoilt(after.result))

    def _spoilt(self, payload: Payload) -> Payload:
        return Payload(self.spoil(payload.data), payload.encoding)

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Return what is kept."""
        return data


def everywhere(data: Json | bytes, change: Callable[[Json], Json]) -> Json | bytes:
    """Return *data* with *change* made to each leaf and key of a tree that is not too deep to be walked."""
    if isinstance(data, bytes):
        return data
    try:
        return _changed(data, change)
    except (RecursionError, ValueError):
        return data


def _changed(data: Json, change: Callable[[Json], Json]) -> Json:
    if isinstance(data, list):
        return [_changed(each, change) for each in data]
    if isinstance(data, dict):
        return {str(change(key)): _changed(each, change) for key, each in data.items()}
    return change(data)


@on_model("R100")
class ReplacesBytesThatAreNoText(AltersPayloads):
    """Decodes bytes as UTF-8 with errors="replace"."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Go through text."""
        return data.decode("utf-8", "replace").encode() if isinstance(data, bytes) else data


@on_model("R100")
class ReadsBytesAsText(AltersPayloads):
    """Keeps bytes in a column of text, whose reader ends at NUL."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """End at NUL."""
        return data.partition(b"\0")[0] if isinstance(data, bytes) else data


@on_model("R100")
class TakesEmptyBytesForNothing(AltersPayloads):
    """Keeps empty bytes as null."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Test for truth, where None is meant."""
        return (data or None) if isinstance(data, bytes) else data


class AltersTexts(Model):
    """Keeps keys, queues, workers and metadata as `spoil` makes them."""

    def store_one(self, job: JobRecord) -> UUID:
        """Spoil what the caller wrote."""
        metadata = {self.spoil(name): self.spoil(value) for name, value in job.metadata.items()}
        key = None if job.idempotency_key is None else self.spoil(job.idempotency_key)
        return super().store_one(evolve(job, metadata=metadata, idempotency_key=key))

    def leased(self, job: JobRecord, claim: r.Claim) -> JobRecord:
        """Spoil the worker's name."""
        return evolve(super().leased(job, claim), worker_id=self.spoil(claim.worker_id))

    def spoil(self, text: str) -> str:
        """Return what is kept."""
        return text


@on_model("R101")
class EndsTextsAtNul(AltersTexts):
    """Cuts texts at NUL, as C does."""

    def spoil(self, text: str) -> str:
        """End at NUL."""
        return text.partition("\0")[0]


@on_model("R101")
class ComposesTexts(AltersTexts):
    """Normalises texts."""

    def spoil(self, text: str) -> str:
        """Compose."""
        return unicodedata.normalize("NFC", text)


@on_model("R101")
class ReplacesLoneSurrogates(AltersTexts):
    """Writes a question mark where UTF-8 has no form."""

    def spoil(self, text: str) -> str:
        """Replace."""
        return text.encode("utf-8", "replace").decode()


@on_model("R101")
class StripsTexts(AltersTexts):
    """Strips blanks from texts."""

    def spoil(self, text: str) -> str:
        """Strip."""
        return text.strip() or text


@on_model("R101")
class KeepsTheBasicPlaneOnly(AltersTexts):
    """Drops characters of four bytes, as utf8mb3 does."""

    def spoil(self, text: str) -> str:
        """Drop."""
        return "".join(character for character in text if ord(character) < 0x10000)


@on_model("R101")
class CutsWorkersAt255(Model):
    """Cuts a worker's name after 255 characters."""

    def leased(self, job: JobRecord, claim: r.Claim) -> JobRecord:
        """Cut."""
        return evolve(super().leased(job, claim), worker_id=claim.worker_id[:255])


@on_reference("R101")
class LetsEncodingErrorsOut(ReferenceProvider):
    """Raises UnicodeEncodeError of metadata that UTF-8 can't hold."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Encode without a look."""
        for job in jobs:
            for value in job.metadata.values():
                value.encode()
        return await super().store_jobs(jobs)


@on_model("R102")
class CutsLargePayloads(AltersPayloads):
    """Cuts what is larger than 64 KiB, as some columns do."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Cut."""
        return data[: 64 * 1024] if isinstance(data, bytes) else data


@on_model("R102")
class CutsLargeTexts(AltersPayloads):
    """Cuts a text of a payload after 1,000,000 characters."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Cut."""
        return data[:1_000_000] if isinstance(data, str) else data


@on_reference("R102")
class KeepsTheRowOfAnOversizePayload(ReferenceProvider):
    """Refuses a payload over 10 MiB when its row is there already."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Write the row, then the blob."""
        for job in jobs:
            if isinstance(job.command.data, str | bytes) and len(job.command.data) > 10 * 2**20:
                await super().store_jobs([evolve(job, command=Payload(None))])
                raise UnstorableError(job.tracking_id, "it is too large")
        return await super().store_jobs(jobs)


def recursive_depth(data: Json | bytes) -> int:
    """Measure how deep *data* is, by a recursion that ends where Python's stack does."""
    if isinstance(data, list):
        return 1 + max(map(recursive_depth, data), default=0)
    if isinstance(data, dict):
        return 1 + max(map(recursive_depth, data.values()), default=0)
    return 0


@on_reference("R103")
class EncodesRecursively(ReferenceProvider):
    """Encodes commands by a recursive function that fails on deep ones."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Recurse."""
        for job in jobs:
            recursive_depth(job.command.data)
        return await super().store_jobs(jobs)


@on_reference("R103")
class EncodesResultsRecursively(ReferenceProvider):
    """Encodes results by a recursive function that fails on deep ones."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Recurse."""
        for settlement in settlements:
            if isinstance(settlement.outcome, Succeeded) and settlement.outcome.result is not None:
                recursive_depth(settlement.outcome.result.data)
        return await super().settle_jobs(settlements, now=now)


@on_model("R103")
class CutsWideLists(AltersPayloads):
    """Keeps 65,535 entries of a list."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Cut."""
        return data[:65_535] if isinstance(data, list) else data


@on_model("R104")
class WritesWholeFloatsAsIntegers(AltersPayloads):
    """Keeps 1.0 as 1."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Tidy up."""
        return everywhere(data, lambda leaf: int(leaf) if isinstance(leaf, float) and leaf.is_integer() else leaf)


@on_model("R104")
class WritesBigIntegersAsFloats(AltersPayloads):
    """Keeps integers of more than 64 bits as floats."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Fall back to a float where the integer does not fit."""

        def change(leaf: Json) -> Json:
            if isinstance(leaf, int) and not isinstance(leaf, bool) and 2**63 <= abs(leaf) < 10**300:
                return float(leaf)
            return leaf

        return everywhere(data, change)


@on_model("R104")
class ForgetsNegativeZero(AltersPayloads):
    """Keeps -0.0 as 0.0."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Add nothing, which makes it positive."""
        return everywhere(data, lambda leaf: leaf + 0.0 if isinstance(leaf, float) else leaf)


@on_model("R104")
class RoundsFloats(AltersPayloads):
    """Keeps 15 digits of a float."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Print it short."""
        return everywhere(data, lambda leaf: float(f"{leaf:.15g}") if isinstance(leaf, float) else leaf)


@on_model("R104")
class ReadsTextsAsNumbers(AltersPayloads):
    """Takes a text that looks like a number for one."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Guess."""
        return everywhere(data, lambda leaf: int(leaf) if isinstance(leaf, str) and leaf in {"1", "2"} else leaf)


@on_values("R104", "payload")
@frozen
class KeepsNanAsNull(Payload):
    """Takes a NaN or an infinity, and keeps null."""

    def __attrs_post_init__(self) -> None:
        change = _null_where_it_is_no_number
        object.__setattr__(self, "data", everywhere(self.data, change))
        super().__attrs_post_init__()


def _null_where_it_is_no_number(leaf: Json) -> Json:
    return None if isinstance(leaf, float) and not isfinite(leaf) else leaf


@on_model("R105")
class ReadsDotsAsPaths(AltersPayloads):
    """Keeps an entry "a.b" as one of a dict inside "a"."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Split at dots."""
        if not isinstance(data, dict):
            return data
        kept: dict[str, Json] = {}
        for name, value in data.items():
            first, _, rest = name.partition(".")
            kept[first] = {rest: value} if first and rest else value
        return kept


@on_model("R105")
class DropsDollars(AltersPayloads):
    """Escapes keys that begin with "$", and forgets to take the escape off."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Escape."""
        return everywhere(data, lambda leaf: f"_{leaf}" if isinstance(leaf, str) and leaf[:1] == "$" else leaf)


@on_model("R105")
class ReadsMarkersOfItsOwn(AltersPayloads):
    """Takes a dict that looks like its own form of bytes for bytes."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Look for the marker."""
        if isinstance(data, dict) and data.keys() == {"bytes", "encoding"}:
            return str(data["bytes"]).encode()
        return data


@on_model("R105")
class ReadsTextsAsJson(AltersPayloads):
    """Parses a text that is JSON."""

    def spoil(self, data: Json | bytes) -> Json | bytes:
        """Parse it once too often."""
        if not isinstance(data, str) or data[:1] not in "[{":
            return data
        try:
            parsed: Json = json.loads(data)
        except ValueError:
            return data
        return parsed


@on_model("R105")
class FiltersMetadataByPattern(Model):
    """Finds jobs whose metadata match what was asked for where "%" stands for anything."""

    def matches(self, job: JobRecord, wanted: r.JobFilter) -> bool:
        """Leave "%" unescaped."""
        loose = {name: value for name, value in wanted.metadata.items() if value != "%"}
        names = {name for name, value in wanted.metadata.items() if value == "%"}
        return names <= job.metadata.keys() and super().matches(job, evolve(wanted, metadata=loose))
