"""Whatever another hand writes into a column of a job, the worker lives and the other jobs run."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from tests.fuzz.damage import HEALTHY, PHASES, Damage, Phase, Scene

if TYPE_CHECKING:
    from pannier_postgres._connection import Connection

TEXTS = ("''", "'junk'", "'{}'", "E'\\x01'", "'\U0001f600'")
COUNTS = ("-2147483648", "2147483647", "-1", "0")
INSTANTS = ("'-infinity'", "'infinity'", "'4713-01-01 BC'", "'294276-01-01'", "'1970-01-01'")
JSON = (
    *("'{}'", "'[1]'", "'1e999'", "'\"\\u0000\"'", "'\"\\ud800\"'", "'null'", "'[{}]'", "'{\"a\": 1}'"),
    "'[{\"attempt\": []}]'",
    "repeat('[', 1000)::text || repeat(']', 1000)",
    "repeat('7', 5000)",
)
JUNK = {
    "queue_id": TEXTS,
    "status": (*TEXTS, "'running'", "'succeeded'"),
    "priority": ("-32768", "32767", "-100", "100"),
    "execute_after": INSTANTS,
    "expire_on": INSTANTS,
    "created_at": INSTANTS,
    "dequeue_after": INSTANTS,
    "finished_at": INSTANTS,
    "attempt": (*COUNTS, "2147483647, fence = 2147483647"),
    "lapses": (*COUNTS, "2147483647, attempt = 2147483647, fence = 2147483647"),
    "fence": (*COUNTS, "9223372036854775807"),
    "worker_id": TEXTS,
    "idempotency_key": TEXTS,
    "command": (*JSON, "NULL", "NULL, command_bytes = '\\xff00'"),
    "command_encoding": TEXTS,
    "metadata": JSON,
    "progress": tuple(f"({junk})::json, progress_encoding = 'json'" for junk in JSON),
    "errors": JSON,
}
CASTS = {"command": "json", "metadata": "jsonb", "errors": "jsonb"}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("column", JUNK)
def test_a_worker_outlives_any_junk_in_any_column(
    runner: asyncio.Runner, url: str, other: "Connection", column: str, phase: Phase
) -> None:
    """The other jobs run, each once; a damaged one fails, or is said to be unreadable, and its row is still there."""

    def damage_by(junk: str) -> Damage:
        value = f"({junk})::{CASTS[column]}" if column in CASTS and "," not in junk.partition("'")[0] else junk
        if "command_bytes" in junk:
            value = junk

        async def damage(tracking_id: UUID) -> None:
            with suppress(asyncpg.exceptions.IntegrityConstraintViolationError, asyncpg.exceptions.DataError):
                await other.execute(f"UPDATE jobs SET {column} = {value} WHERE tracking_id = $1", tracking_id)  # noqa: S608

        return damage

    damages = [damage_by(junk) for junk in JUNK[column]]
    runner.run(phase(Scene(url), damages))

    assert runner.run(other.fetchval("SELECT count(*) FROM jobs")) == len(damages) + HEALTHY
