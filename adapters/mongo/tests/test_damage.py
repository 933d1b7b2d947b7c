"""Whatever another hand writes into a field of a job, the worker lives and the other jobs run."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import bson
import pytest
from bson import Binary, DatetimeMS, Int64, ObjectId
from pymongo.errors import OperationFailure
from tests.fuzz.damage import HEALTHY, Damage, Phase, Scene

from pannier_mongo._documents import CODEC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.asynchronous.database import AsyncDatabase

    Database: TypeAlias = AsyncDatabase[Mapping[str, object]]

ABSENT = object()
JUNK: tuple[object, ...] = (
    *(ABSENT, None, True, -1, 1.5, Int64(2**63 - 1), "junk", b"\xff", [1], {"$a": 1}, UUID(int=0)),
    *(DatetimeMS(0), DatetimeMS(2**62), [{"attempt": []}], {"encoding": "json", "text": "["}),
)
FIELDS = (
    *("queue_id", "command", "execute_after", "expire_on", "created_at", "priority", "metadata", "status", "attempt"),
    *("lapses", "fence", "dequeue_after", "worker_id", "progress", "result", "errors", "finished_at", "line"),
    *("stale_since", "claim", "settled"),
)
WRITTEN_BY_SETTLEMENTS = ("status", "attempt", "lapses", "fence", "dequeue_after", "expire_on", "errors", "line")
CASES = [
    *((field, Scene.damaged_while_they_wait) for field in FIELDS),
    *((field, Scene.damaged_while_they_run) for field in WRITTEN_BY_SETTLEMENTS),
]


@pytest.mark.parametrize(("field", "phase"), CASES)
def test_a_worker_outlives_any_junk_in_any_field(
    runner: asyncio.Runner, url: str, other: "Database", field: str, phase: Phase
) -> None:
    """The other jobs run, each once; a damaged one fails, or is said to be unreadable, and is still there."""

    def damage_by(junk: object) -> Damage:
        async def damage(tracking_id: UUID) -> None:
            with suppress(OperationFailure):  # SecantusDB, which is written in Python, holds no dates that Python can't
                update = {"$unset": {field: ""}} if junk is ABSENT else {"$set": {field: junk}}
                await other["pannier_jobs"].update_one({"_id": tracking_id}, update)

        return damage

    damages = [damage_by(junk) for junk in JUNK]
    runner.run(phase(Scene(url), damages))

    assert runner.run(other["pannier_jobs"].count_documents({})) == len(damages) + HEALTHY


def test_a_worker_outlives_jobs_whose_ids_are_no_uuids(runner: asyncio.Runner, url: str, other: "Database") -> None:
    """A document that another hand has made or copied, with an id of its own kind, is failed and holds up no other."""

    def copy_as(identity: object) -> Damage:
        async def damage(tracking_id: UUID) -> None:
            found = await other["pannier_jobs"].find_one({"_id": tracking_id})
            assert found is not None
            await other["pannier_jobs"].insert_one({**found, "_id": identity})

        return damage

    copies = ["x", "", 7, None, ObjectId(), Binary(b"short")]
    runner.run(Scene(url).damaged_while_they_wait([copy_as(identity) for identity in copies]))

    alien = {"_id": {"$in": copies}}
    statuses = runner.run(other["pannier_jobs"].distinct("status", alien))
    assert statuses == ["failed"]


def test_a_date_of_no_year_that_python_has_hinders_no_reading() -> None:
    """It is read as the first or the last instant; the other documents of the answer are read as they are."""
    raw = bson.encode({"early": DatetimeMS(-(2**62)), "late": DatetimeMS(2**62)})

    read = bson.decode(raw, CODEC)

    assert read == {
        "early": datetime.min.replace(tzinfo=UTC),
        "late": datetime.max.replace(microsecond=999000, tzinfo=UTC),
    }
