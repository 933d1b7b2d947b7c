"""Reports: medians and spread of the samples, as JSON and as tables."""

import os
import platform
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen

from benchmarks.plan import Case
from benchmarks.roster import BARE, OURS
from benchmarks.rounds import Sample


@frozen(kw_only=True)
class Summary:
    """All rounds of one contestant in one unit."""

    case: Case
    contestant: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int


def summaries(samples: Iterable[Sample]) -> list[Summary]:
    """Sum the rounds up, in the order in which they were taken."""
    collected: dict[tuple[str, str, str], tuple[Case, list[float]]] = {}
    for sample in samples:
        for unit, value in (sample.answer or {}).items():
            key = (str(sample.case), sample.contestant, unit)
            collected.setdefault(key, (sample.case, []))[1].append(value)
    return [
        Summary(
            case=case,
            contestant=contestant,
            unit=unit,
            median=median(values),
            low=min(values),
            high=max(values),
            rounds=len(values),
        )
        for (_, contestant, unit), (case, values) in collected.items()
    ]


def as_json(samples: Sequence[Sample]) -> dict[str, object]:
    """Return everything that was measured, and on what."""
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "samples": [
            {
                "case": str(sample.case),
                "measure": sample.case.measure,
                "storage": sample.case.storage,
                "numbers": dict(sample.case.numbers),
                "contestant": sample.contestant,
                "round": sample.round,
                "answer": sample.answer,
                "error": sample.error,
            }
            for sample in samples
        ],
    }


CPUINFO: Final = Path("/proc/cpuinfo")


def machine() -> Mapping[str, object]:
    """Say what kind of machine this is; nothing that tells which one."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    processors = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": processors[0] if processors else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def as_tables(found: Sequence[Summary]) -> str:
    """Return a Markdown table for each case and unit, with ratios to the bare driver and to pannier."""
    by_unit: dict[tuple[str, str], list[Summary]] = {}
    for summary in found:
        by_unit.setdefault((str(summary.case), summary.unit), []).append(summary)
    return "\n\n".join(_table(case, unit, rows) for (case, unit), rows in by_unit.items())


def _table(case: str, unit: str, rows: Sequence[Summary]) -> str:
    medians = {row.contestant: row.median for row in rows}
    lines = [
        f"**{case}** ({unit})\n",
        "| | median | min - max | rounds | of bare | pannier is |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        of_bare = f"{row.median / medians[BARE]:.2f}" if BARE in medians else ""
        of_ours = f"{medians[OURS] / row.median:.2f} ×" if OURS in medians and row.contestant != OURS else ""
        lines.append(
            f"| {row.contestant} | {_short(row.median)} | {_short(row.low)} - {_short(row.high)} "
            f"| {row.rounds} | {of_bare} | {of_ours} |"
        )
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
