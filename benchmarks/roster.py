"""Who takes part, in which environment, and in what."""

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

OURS: Final = "pannier"
BARE: Final = "bare"


@frozen(kw_only=True)
class Contestant:
    """
    One who is measured.

    Attributes:
        name: What tables call it.
        module: Below `benchmarks.contestants`.
        storages: Where it takes part.
        measures: In what it takes part; functions of the module.
        requires: What its environment needs; empty: this one.
        settings: What its tasks say beside the case's own numbers.
        most: The most jobs that it is given in a sample: a slow one would take minutes, and its rate is the same.
    """

    name: str
    module: str
    storages: tuple[str, ...]
    measures: tuple[str, ...]
    requires: tuple[str, ...] = ()
    settings: Mapping[str, int] = field(factory=dict[str, int])
    most: int = 1_000_000


SQLITE: Final = ("sqlite", "sqlite-normal")
ALL: Final = ("memory", *SQLITE, "postgres", "mongo")

APSCHEDULER: Final = (
    "apscheduler==4.0.0a6",
    "sqlalchemy[asyncio]",
    "aiosqlite",
    "psycopg[binary]",
    "pymongo",
    "sniffio",
)
PGQUEUER: Final = ("pgqueuer==1.6.0", "asyncpg")

CONTESTANTS: Final = (
    Contestant(
        name=OURS,
        module="ours",
        storages=ALL,
        measures=("drain", "enqueue", "bulk"),
    ),
    Contestant(name=OURS, module="ours_latency", storages=ALL, measures=("latency", "latency_apart")),
    Contestant(name=OURS, module="ours_processes", storages=ALL, measures=("processes",)),
    Contestant(
        name=OURS,
        module="ours_claims",
        storages=ALL,
        measures=("claims_waiting", "claims_scheduled", "claims_finished"),
    ),
    Contestant(name=OURS, module="ours_resources", storages=ALL, measures=("idle", "imports")),
    Contestant(name=BARE, module="bare_memory", storages=("memory",), measures=("drain",)),
    Contestant(name=BARE, module="bare_sqlite", storages=SQLITE, measures=("drain", "enqueue", "bulk")),
    Contestant(name=BARE, module="bare_postgres", storages=("postgres",), measures=("drain", "enqueue", "bulk")),
    Contestant(name=BARE, module="bare_mongo", storages=("mongo",), measures=("drain", "enqueue", "bulk")),
    Contestant(
        name="huey",
        module="huey",
        storages=("memory", "sqlite-normal"),
        measures=("drain", "enqueue"),
        requires=("huey==3.5.4",),
    ),
    Contestant(
        name="huey",
        module="huey",
        storages=("sqlite",),
        measures=("drain", "enqueue"),
        requires=("huey==3.5.4",),
        most=3_000,
    ),
    Contestant(
        name="litequeue",
        module="litequeue",
        storages=("sqlite-normal",),
        measures=("drain", "enqueue"),
        requires=("litequeue==0.14",),
        most=5_000,
    ),
    Contestant(
        name="APScheduler 4",
        module="apscheduler4",
        storages=("memory",),
        measures=("drain", "enqueue"),
        requires=APSCHEDULER,
    ),
    Contestant(
        name="APScheduler 4",
        module="apscheduler4",
        storages=("sqlite", "postgres"),
        measures=("drain", "enqueue"),
        requires=APSCHEDULER,
        most=500,
    ),
    Contestant(
        name="APScheduler 4",
        module="apscheduler4",
        storages=("mongo",),
        measures=("drain", "enqueue"),
        requires=APSCHEDULER,
        most=200,
    ),
    Contestant(name="taskiq", module="taskiq", storages=("memory",), measures=("drain",), requires=("taskiq==0.13.0",)),
    Contestant(
        name="pgqueuer 500",
        module="pgqueuer",
        storages=("postgres",),
        measures=("drain",),
        requires=PGQUEUER,
        settings={"batch": 500},
    ),
    Contestant(
        name="pgqueuer 10",
        module="pgqueuer",
        storages=("postgres",),
        measures=("drain",),
        requires=PGQUEUER,
        settings={"batch": 10},
        most=10_000,
    ),
    Contestant(
        name="pgqueuer",
        module="pgqueuer",
        storages=("postgres",),
        measures=("enqueue", "bulk"),
        requires=PGQUEUER,
        most=10_000,
    ),
    Contestant(
        name="oban",
        module="oban",
        storages=("postgres",),
        measures=("drain", "enqueue", "bulk"),
        requires=("oban==0.7.0", "psycopg[binary,pool]"),
        most=3_000,
    ),
    Contestant(
        name="chancy",
        module="chancy",
        storages=("postgres",),
        measures=("drain", "enqueue", "bulk"),
        requires=("chancy==0.26.0", "psycopg[binary,pool]"),
        most=3_000,
    ),
    Contestant(
        name="procrastinate",
        module="procrastinate",
        storages=("postgres",),
        measures=("drain", "enqueue", "bulk"),
        requires=("procrastinate==3.10.0", "psycopg[binary,pool]"),
        most=2_000,
    ),
)
"""In the order in which they take turns."""
