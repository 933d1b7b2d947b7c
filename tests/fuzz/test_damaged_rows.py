"""SQLite: whatever another hand writes into a column of a job, the worker lives and the other jobs run."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from uuid import UUID

import pytest

from tests.fuzz.damage import HEALTHY, Damage, Phase, Scene

TEXTS = ("''", "'junk'", "'{}'", "'[1]'", "CAST(x'ff00' AS TEXT)", "char(0)", "'\U0001f600'")
NUMBERS = ("-9223372036854775808", "9223372036854775807", "-1", "0", "4102444800000000")
DEEP = "'" + "[" * 1000 + "]" * 1000 + "'"
JSON = (*TEXTS, DEEP, "'NaN'", "'1e999'", "'{\"a\": 1}'", "'[{}]'", "'[{\"attempt\": []}]'", "'\"\\ud800\"'", "x'00ff'")
JUNK = {
    "tracking_id": (*TEXTS, "'" + "z" * 36 + "'", "'" + "-" * 36 + "'", "'" + "f" * 36 + "'"),
    "queue_id": TEXTS,
    "status": (*TEXTS, "'running'", "'succeeded'"),
    "priority": NUMBERS,
    "execute_after": NUMBERS,
    "expire_on": NUMBERS,
    "created_at": NUMBERS,
    "dequeue_after": NUMBERS,
    "finished_at": NUMBERS,
    "attempt": NUMBERS,
    "lapses": NUMBERS,
    "fence": NUMBERS,
    "worker_id": TEXTS,
    "idempotency_key": TEXTS,
    "command": (*JSON, *NUMBERS, "1.5"),
    "command_encoding": TEXTS,
    "metadata": JSON,
    "progress": (*JSON, *NUMBERS),
    "result": (*JSON, *NUMBERS),
    "errors": JSON,
}
SET_WITH_IT = {"progress": ", progress_encoding = 'json'", "result": ", result_encoding = 'json'"}


@pytest.mark.parametrize(
    "phase", [Scene.damaged_while_they_wait, Scene.damaged_while_they_run], ids=["waiting", "running"]
)
@pytest.mark.parametrize("column", JUNK)
def test_a_worker_outlives_any_junk_in_any_column(tmp_path: Path, column: str, phase: Phase) -> None:
    """The other jobs run, each once; a damaged one fails, or is said to be unreadable, and its row is still there."""
    path = tmp_path / "jobs.db"

    def damage_by(junk: str) -> Damage:
        async def damage(tracking_id: UUID) -> None:
            change = f"UPDATE pannier_jobs SET {column} = {junk}{SET_WITH_IT.get(column, '')} WHERE tracking_id = ?"  # noqa: S608
            with (
                closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection,
                suppress(sqlite3.IntegrityError),  # the table itself keeps this junk out
            ):
                connection.execute(change, (str(tracking_id),))

        return damage

    damages = [damage_by(junk) for junk in JUNK[column]]
    asyncio.run(phase(Scene(f"sqlite:///{path}?synchronous=normal"), damages))

    with closing(sqlite3.connect(path)) as connection:
        [[rows]] = connection.execute("SELECT count(*) FROM pannier_jobs").fetchall()
    assert rows == len(damages) + HEALTHY
