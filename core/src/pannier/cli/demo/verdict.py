"""The verdict: what another process finds in the storage, held against the plan."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from rich.table import Table
from rich.text import Text

from pannier import JobStatus
from pannier.cli.demo.plan import KINDS, Planned
from pannier.cli.durations import spell
from pannier.cli.showing import STYLES, table

Found = Mapping[str, object]
"""A job, as `pannier jobs list --json --payloads` prints it."""


def faults_of(planned: Planned, found: Found | None) -> Iterator[str]:
    """Say in what *found* differs from what was *planned*."""
    if found is None:
        yield "it is not in the storage"
        return
    expected = {
        "status": planned.status.value,
        "attempt": planned.attempts,
        "result": planned.result,
        "number of errors": planned.failures,
    }
    actual = {
        "status": found["status"],
        "attempt": found["attempt"],
        "result": _result(found),
        "number of errors": len(_errors(found)),
    }
    for name, value in expected.items():
        if actual[name] != value:
            yield f"its {name} is {actual[name]!r} instead of {value!r}"
    if _took(found) is not None and cast("timedelta", _took(found)) < timedelta(0):
        yield "it ran before it was due"


def fates(plan: Sequence[tuple[UUID, Planned]], found: Mapping[UUID, Found]) -> Table:
    """Return a table of what became of each job."""
    rows = table("", "job", "", "became", "attempt", "took", "remark")
    rows.padding = (0, 1, 0, 0)
    rows.columns[4].justify = rows.columns[5].justify = "right"
    rows.columns[6].overflow, rows.columns[6].no_wrap = "ellipsis", True
    order = list(KINDS)
    for tracking_id, planned in sorted(plan, key=lambda each: (order.index(each[1].kind), each[1].label)):
        job = found.get(tracking_id)
        is_right = not list(faults_of(planned, job))
        mark = Text("✓", "green") if is_right else Text("✗", "bold red")
        rows.add_row(mark, planned.kind.__name__, planned.label, *_fate(job))
    return rows


def _fate(job: Found | None) -> Sequence[Text | str]:
    if job is None:
        return ["", "", "", ""]
    status = JobStatus(str(job["status"]))
    took = _took(job)
    return [
        Text(status.value, STYLES[status]),
        str(job["attempt"]),
        "" if took is None else spell(took),
        Text(_remark(job, status), "dim"),
    ]


def _remark(job: Found, status: JobStatus) -> str:
    """Say what is worth knowing: the result, or how it failed last, or how far it got."""
    errors = _errors(job)
    if status is JobStatus.CANCELLED:
        steps = job["steps"]
        return f"at {steps['current_status']}" if isinstance(steps, dict) else ""
    result = _result(job)
    if isinstance(result, dict):
        return f"{result['result']:,} bytes"
    if errors:
        return f"{errors[-1]['message']}"
    return "" if result is None else str(result)


def _took(job: Found) -> timedelta | None:
    """Return how long after it was due the job ended."""
    if job["finished_at"] is None:
        return None
    return datetime.fromisoformat(str(job["finished_at"])) - datetime.fromisoformat(str(job["execute_after"]))


def _errors(job: Found) -> Sequence[Mapping[str, object]]:
    return cast("Sequence[Mapping[str, object]]", job["errors"])


def _result(job: Found) -> object:
    result = job["result"]
    return result["data"] if isinstance(result, dict) else None
