"""Plans: no statement of a worker reads or sorts a backlog (R119, R120), whatever the table's statistics say."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from pannier_testing.builders import QUEUE, T0, new_job

if TYPE_CHECKING:
    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

NewId = Callable[[], UUID]
Plan = Mapping[str, Any]

FEW, MANY = 2_000, 20_000
PRIORITIES = 201
NOW = f"'{T0.isoformat()}'::timestamptz"
LATER = f"{NOW} + interval '1 day'"
IDS = [str(UUID(int=number)) for number in (1, 2, 3)]
THREE = f"ARRAY[{', '.join(map(repr, IDS))}]::uuid[]"

BACKLOGS = {
    "due": f"'pending', 0, {NOW}, NULL, NULL, 0, NULL",
    "due later, first in line": f"'pending', 100, {LATER}, NULL, NULL, 0, NULL",
    "due later, over all priorities": f"'pending', i % 201 - 100, {LATER}, NULL, NULL, 0, NULL",
    "due later, to expire": f"'pending', 100, {LATER}, {LATER} + interval '1 day', NULL, 0, NULL",
    "leased": f"'running', 100, {LATER}, NULL, NULL, 1, 'w'",
    "finished": f"'succeeded', 100, {NOW}, NULL, {NOW} + i * interval '1 s', 1, 'w'",
    "expired and marked": f"'expired', 100, {NOW}, {NOW} + interval '1 s', {NOW} + interval '1 day', 0, NULL",
}

CLAIM = f"ARRAY[0,0], ARRAY['{QUEUE}','{QUEUE}.old'], ARRAY[3,3], {NOW}, {LATER}, 'w', 1000, ARRAY[]::uuid[]"

NONE = "ARRAY[NULL,NULL,NULL]"

ARGUMENTS = {
    "cancel_job": f"'{IDS[0]}', {NOW}",
    "delete_stale_jobs": f"ARRAY['succeeded', 'expired'], ARRAY[{NOW}, {NOW}], NULL, 100",
    "expire_jobs": f"ARRAY['{QUEUE}'], {NOW}, 100",
    "fail_jobs": f"{THREE}, ARRAY[1,1,1], ARRAY['1','2','3'], {NOW}",
    "find_standing_jobs": f"{THREE}, ARRAY['{QUEUE}','{QUEUE}','{QUEUE}'], ARRAY['a','b',NULL]",
    "get_job": f"'{IDS[0]}'",
    "get_job_result": f"'{IDS[0]}'",
    "list_expiring_queues": "",
    "read_states": THREE,
    "release_jobs": f"{THREE}, ARRAY[1,1,1]",
    "renew_leases": f"{THREE}, ARRAY[1,1,1], {LATER}",
    "requeue_job": f"'{IDS[0]}', {NOW}, NULL",
    "retry_jobs": f"{THREE}, ARRAY[1,1,1], ARRAY['1','2','3'], ARRAY[{NOW},{NOW},{NOW}]",
    "store_job": f"gen_random_uuid(), '{QUEUE}', 0, {NOW}, NULL, {NOW}, 'k', '{{}}', 'json', '1', NULL",
    "store_similar_jobs": (
        f"{THREE}, ARRAY['1','2','3'], '{QUEUE}', 0, '{{}}', 'json', ARRAY[{NOW}], ARRAY[NULL]::timestamptz[], "
        f"ARRAY[{NOW}]"
    ),
    "store_progress": f"'{IDS[0]}', 1, 'json', '1', NULL",
    "succeed_jobs": f"{THREE}, ARRAY[1,1,1], ARRAY['json',NULL,NULL], ARRAY['1',NULL,NULL], {NONE}::bytea[], {NOW}",
}


ADD = """
INSERT INTO jobs (tracking_id, queue_id, execute_after, created_at, command, command_encoding, status, priority,
    dequeue_after, expire_on, finished_at, attempt, worker_id, fence)
SELECT gen_random_uuid(), 'mail', '2030-01-01Z', '2030-01-01Z', '1', 'json', s, p, d, e::timestamptz, f::timestamptz,
    a, w, a
FROM generate_series(1, $1) AS i, LATERAL (VALUES (%s)) AS job (s, p, d, e, f, a, w)
"""


async def add(connection: "Connection", backlog: str, count: int) -> None:
    """Put *count* jobs of a backlog beside what is there, as quickly as the server can."""
    await connection.execute(ADD % BACKLOGS[backlog], count)


async def explained(storage: "PostgresStorage", name: str, arguments: str) -> Plan:
    """Run a statement in a session of the adapter's own, as it would, and undo it; return the plan and its counts."""

    async def explain(connection: "Connection") -> Plan:
        await connection.execute("BEGIN")
        await connection.execute(f"PREPARE explained AS {storage._sql[name]}")
        text = await connection.fetchval(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE explained{f'({arguments})' if arguments else ''}"
        )
        await connection.execute("DEALLOCATE explained; ROLLBACK")
        plan: Plan = json.loads(text)[0]["Plan"]
        return plan

    return await storage._run(explain)


def nodes(plan: Plan) -> Iterator[Plan]:
    """Return *plan* and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def faults(plan: Plan) -> list[str]:
    """Return what a plan may not have: scans of the whole table, and sorts of many rows."""
    return [
        f"{node['Node Type']} of {node['Actual Rows']} rows"
        for node in nodes(plan)
        if (node["Node Type"] in {"Seq Scan", "Bitmap Heap Scan"} and node.get("Relation Name") == "jobs")
        or ("Sort" in node["Node Type"] and node["Actual Rows"] > PRIORITIES)
    ]


def rows_read(plan: Plan) -> int:
    """Return how many rows of the table were looked at."""
    return sum(
        round(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))
        for node in nodes(plan)
        if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]
    )


@pytest.mark.parametrize("backlog", BACKLOGS)
def test_a_claim_reads_as_many_rows_from_a_long_backlog_as_from_a_short_one(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId, backlog: str
) -> None:
    """Not one more for all that waits, is scheduled, leased or finished, with statistics or without."""

    async def play() -> tuple[Plan, Plan, Plan]:
        await storage.store_jobs([new_job(ids()) for _ in range(5)])
        await add(other, backlog, FEW)
        short = await explained(storage, "claim_jobs", CLAIM)
        await add(other, backlog, MANY - FEW)
        long = await explained(storage, "claim_jobs", CLAIM)
        await other.execute("ANALYZE jobs")
        return short, long, await explained(storage, "claim_jobs", CLAIM)

    short, long, analyzed = runner.run(play())
    assert faults(short) == faults(long) == faults(analyzed) == []
    assert rows_read(long) <= rows_read(short)
    assert rows_read(analyzed) <= rows_read(short)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_statement_reads_rows_that_it_was_not_asked_for(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId, name: str
) -> None:
    """Behind every kind of backlog each look-up goes through an index, and none sorts what it read."""

    async def play() -> Plan:
        await storage.store_jobs([new_job(UUID(tracking_id)) for tracking_id in IDS])
        for backlog in BACKLOGS:
            await add(other, backlog, 1_000)
        return await explained(storage, name, ARGUMENTS[name])

    plan = runner.run(play())
    assert faults(plan) == []
    assert rows_read(plan) <= 30


def test_storing_reads_nothing(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """Whether a job is there the unique indexes say."""

    async def play() -> Plan:
        for backlog in BACKLOGS:
            await add(other, backlog, 1_000)
        times = f"ARRAY[{NOW}], ARRAY[NULL]::timestamptz[], ARRAY[{NOW}]"
        texts = "ARRAY['k'], ARRAY['{}'], ARRAY['json'], ARRAY['1'], ARRAY[NULL]::bytea[]"
        return await explained(
            storage, "store_jobs", f"ARRAY[gen_random_uuid()], ARRAY['{QUEUE}'], ARRAY[0], {times}, {texts}"
        )

    plan = runner.run(play())
    assert faults(plan) == []
    assert rows_read(plan) == 0


def test_every_statement_of_a_worker_is_among_these(storage: "PostgresStorage") -> None:
    """A new one must be looked at as well; those that people ask for have no one right plan."""
    asked_by_people = {"count_jobs", "find_jobs"}

    assert storage._sql.keys() - asked_by_people == {*ARGUMENTS, "claim_jobs", "store_jobs"}
