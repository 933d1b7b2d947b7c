"""Showing: jobs and numbers as a person reads them, and as a script does."""

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pannier.cli.durations import spell
from pannier.records import JobError, JobRecord, JobStatus, Payload

STYLES: Final[Mapping[JobStatus, str]] = {
    JobStatus.PENDING: "cyan",
    JobStatus.RUNNING: "bold blue",
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "bold red",
    JobStatus.CANCELLED: "yellow",
    JobStatus.EXPIRED: "magenta",
}

WIDE: Final = 200
"""The width of output that goes into a file or a pipe, where no line need fit a screen."""


def console() -> Console:
    """Return a console on stdout as it is now."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def table(*headings: str) -> Table:
    """Return an empty table."""
    new = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        new.add_column(heading, overflow="fold")
    return new


def status_text(status: JobStatus) -> Text:
    """Return *status* in its colour."""
    return Text(status.value, STYLES[status])


def when(at: datetime, now: datetime) -> str:
    """Word *at* as seen from *now*."""
    return f"in {spell(at - now)}" if at > now else f"{spell(now - at)} ago"


def print_json(values: Iterable[Mapping[str, object]]) -> None:
    """Print each of *values* as one line of JSON."""
    for value in values:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def payload_as_json(payload: Payload | None) -> Mapping[str, object] | None:
    """Return *payload* as JSON can hold it: bytes as base64."""
    if payload is None:
        return None
    if isinstance(payload.data, bytes):
        return {"encoding": payload.encoding, "base64": base64.b64encode(payload.data).decode()}
    return {"encoding": payload.encoding, "data": payload.data}


def job_as_json(job: JobRecord) -> dict[str, object]:
    """Return *job* without its payloads, which may hold what a log must not."""
    return {
        "tracking_id": str(job.tracking_id),
        "queue_id": job.queue_id,
        "status": job.status.value,
        "priority": job.priority,
        "attempt": job.attempt,
        "lapses": job.lapses,
        "created_at": job.created_at.isoformat(),
        "execute_after": job.execute_after.isoformat(),
        "dequeue_after": job.dequeue_after.isoformat(),
        "expire_on": _text(job.expire_on),
        "finished_at": _text(job.finished_at),
        "worker_id": job.worker_id,
        "idempotency_key": job.idempotency_key,
        "metadata": dict(job.metadata),
        "steps": steps_of(job),
        "errors": [_error_as_json(error) for error in job.errors],
    }


def payloads_as_json(job: JobRecord) -> dict[str, object]:
    """Return the payloads of *job*, as they are stored."""
    return {
        "command": payload_as_json(job.command),
        "progress": payload_as_json(job.progress),
        "result": payload_as_json(job.result),
    }


def steps_of(job: JobRecord) -> dict[str, object] | None:
    """Return the steps that the handler of *job* has reported; None where there are none to be read."""
    data = job.progress.data if job.progress is not None else None
    if not isinstance(data, dict):
        return None
    names = ("current_step", "total_steps", "current_status")
    return {name: data[name] for name in names} if all(name in data for name in names) else None


def _error_as_json(error: JobError) -> dict[str, object]:
    return {
        "attempt": error.attempt,
        "at": error.at.isoformat(),
        "kind": error.kind,
        "message": error.message,
        "traceback": error.traceback,
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
