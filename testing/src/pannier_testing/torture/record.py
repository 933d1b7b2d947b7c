"""What is kept of a run: JSON that says what was done to what, and what came of it. No names of hosts or users."""

import json
import platform
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import cattrs
from attrs import frozen

from pannier.hookspecs import PROJECT
from pannier_testing.torture.oracle import Finding, Verdict
from pannier_testing.torture.plan import Plan


@frozen(kw_only=True)
class Record:
    """
    One run.

    Attributes:
        storage: The URL's scheme.
        versions: Of pannier, of the adapter's distribution, of the engine where it is known, and of Python.
        machine: System, processor, and how many of those.
        on: The day.
        plan: What was to be done: jobs, faults by kind, seed, workers, seconds of a lease and between faults.
        seconds: How long it took.
        counts: What was counted; what must not be comes first, and is 0 in a clean run.
        findings: What must not be, in words.
    """

    storage: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    on: str
    plan: Mapping[str, Any]
    seconds: float
    counts: Mapping[str, float]
    findings: tuple[Finding, ...] = ()

    @property
    def faults(self) -> Mapping[str, int]:
        """How many faults of each kind."""
        faults: Mapping[str, int] = self.plan["faults"]
        return faults

    @property
    def pause_seconds(self) -> float:
        """How long the processes were let alone after each fault; the first records don't tell, and nobody was."""
        pause: float = self.plan.get("pause_seconds", 0.0)
        return pause

    @property
    def name(self) -> str:
        """What its file is called."""
        done = "-".join(f"{kind}{count}" for kind, count in sorted(self.faults.items()) if count) or "race"
        return f"{self.storage}-{done}-jobs{self.plan['jobs']}-seed{self.plan['seed']}.json"


def record_of(
    verdict: Verdict, plan: Plan, *, storage: str, engine: str, seconds: float, cpus: int, today: datetime | None = None
) -> Record:
    """Return the record of a run that is over."""
    return Record(
        storage=storage,
        versions={
            "pannier": version(PROJECT),
            **_adapter_version(storage),
            **({"engine": engine} if engine else {}),
            "python": platform.python_version(),
        },
        machine={
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cpus": str(cpus),
        },
        on=(today or datetime.now(UTC)).date().isoformat(),
        plan={
            "jobs": plan.jobs,
            "faults": {kind.value: count for kind, count in sorted(plan.faults.items()) if count},
            "seed": plan.seed,
            "workers": plan.workers,
            "lease_seconds": plan.lease_seconds,
            "pause_seconds": plan.pause_seconds,
        },
        seconds=round(seconds, 1),
        counts=verdict.counts,
        findings=verdict.findings,
    )


def write_record(record: Record, folder: Path) -> Path:
    """Write *record* into *folder*, which is made; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / record.name
    path.write_text(json.dumps(cattrs.unstructure(record), indent=2) + "\n", "utf-8")
    return path


def read_records(folder: Path) -> list[Record]:
    """Return all records in *folder*, by file name."""
    return [cattrs.structure(json.loads(path.read_text("utf-8")), Record) for path in sorted(folder.glob("*.json"))]


def engine_of(storage: str) -> str:
    """Return the version of an engine that is part of this process; "" where only its server knows."""
    return f"SQLite {sqlite3.sqlite_version}" if storage == "sqlite" else ""


def _adapter_version(storage: str) -> Mapping[str, str]:
    """Return the version of the distribution that serves the scheme, if it is called as the scheme begins."""
    for entry in entry_points(group=PROJECT):
        if storage.startswith(entry.name) and entry.dist is not None:
            return {entry.dist.name: entry.dist.version}
    return {}
