"""`pannier jobs`: list, show, cancel and requeue."""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, assert_never
from uuid import UUID

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pannier.cli.durations import parse_duration, spell
from pannier.cli.exits import ExitCode
from pannier.cli.showing import (
    console,
    job_as_json,
    payloads_as_json,
    print_json,
    status_text,
    steps_of,
    table,
    when,
)
from pannier.cli.targets import Ids, Target, TargetOrId, inspector_of, opened, target_and_ids
from pannier.cli.words import printable
from pannier.inspection import JobFilter, Requeue
from pannier.records import Cancellation, JobRecord, JobStatus

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="List, show, cancel and requeue jobs.")

PAGE = 500
"""How many jobs are asked for at once."""

Json = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")]
PAYLOADS = "Show command, progress and result as they are stored; they may hold secrets."
Payloads = Annotated[bool, typer.Option("--payloads", help=PAYLOADS)]
Queues = Annotated[list[str] | None, typer.Option("--queue", "-q", metavar="NAME", help="Only this queue. Repeatable.")]
Statuses = Annotated[list[JobStatus] | None, typer.Option("--status", "-s", help="Only this status. Repeatable.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", "-m", metavar="NAME=VALUE", help="Only jobs with this metadata. Repeatable."),
]


@app.command("list")
def list_jobs(
    target: Target,
    *,
    queue: Queues = None,
    status: Statuses = None,
    metadata: Metadata = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    payloads: Annotated[bool, typer.Option("--payloads", help=f"{PAYLOADS} Implies --json.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs. Payloads are not shown unless asked for."""
    wanted = job_filter(queue, status, metadata)
    jobs, now, is_cut = asyncio.run(_find(target, wanted, limit))
    if as_json or payloads:
        print_json(job_as_json(job) | (payloads_as_json(job) if payloads else {}) for job in jobs)
    else:
        console().print(_listing(jobs, now) if jobs else Text("no such jobs", "dim"))
    if is_cut:
        print(f"pannier: there are more than {limit}; see --limit", file=sys.stderr)


@app.command("show")
def show_jobs(first: TargetOrId = None, others: Ids = None, payloads: Payloads = False, as_json: Json = False) -> None:
    """Show all there is to know of jobs. Payloads are not shown unless asked for."""
    target, ids = target_and_ids(first, others)
    found, now = asyncio.run(_get(target, ids))
    jobs = [job for job in found if job is not None]
    if as_json:
        print_json(job_as_json(job) | (payloads_as_json(job) if payloads else {}) for job in jobs)
    else:
        for job in jobs:
            console().print(_portrait(job, now, payloads_as_json(job) if payloads else {}))
    missing = [tracking_id for tracking_id, job in zip(ids, found, strict=True) if job is None]
    for tracking_id in missing:
        print(f"pannier: there is no job {tracking_id}; it was never queued here, or is purged", file=sys.stderr)
    raise typer.Exit(ExitCode.FAILED if missing else ExitCode.DONE)


@app.command("cancel")
def cancel_jobs(first: TargetOrId = None, others: Ids = None) -> None:
    """Cancel jobs at once and for good, waiting or running. A running handler is told to stop."""
    target, ids = target_and_ids(first, others)
    _report(ids, asyncio.run(_cancel(target, ids)), done=Cancellation.CANCELLED)


@app.command("requeue")
def requeue_jobs(
    first: TargetOrId = None,
    others: Ids = None,
    expire_after: Annotated[
        str, typer.Option(metavar="DURATION", help="When the job expires if it is not done by then, or 'never'.")
    ] = "4h",
) -> None:
    """Queue jobs again that have failed, expired or been cancelled. Their attempts are counted anew."""
    target, ids = target_and_ids(first, others)
    span = None if expire_after == "never" else parse_duration(expire_after)
    _report(ids, asyncio.run(_requeue(target, ids, span)), done=Requeue.REQUEUED)


def job_filter(
    queues: Iterable[str] | None, statuses: Iterable[JobStatus] | None, metadata: Iterable[str] | None
) -> JobFilter:
    """
    Return the filter that options describe; what is not given matches all.

    Raises:
        BadParameter: An entry of *metadata* is not NAME=VALUE.
    """
    entries: dict[str, str] = {}
    for text in metadata or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--metadata")
        entries[name] = value
    return JobFilter(
        queue_ids=frozenset(queues) if queues else None,
        statuses=frozenset(statuses) if statuses else None,
        metadata=entries,
    )


async def _find(target: str, wanted: JobFilter, limit: int) -> tuple[list[JobRecord], datetime, bool]:
    """Return up to *limit* jobs, the time, and whether there are more."""
    found: list[JobRecord] = []
    cursor: str | None = None
    async with opened(target) as jobs:
        inspector = inspector_of(jobs)
        while len(found) <= limit:
            page = await inspector.find_jobs(wanted, cursor=cursor, limit=min(PAGE, limit + 1 - len(found)))
            found.extend(page.jobs)
            cursor = page.cursor
            if cursor is None:
                break
        return found[:limit], jobs.session.clock.now(), len(found) > limit


async def _get(target: str, ids: Sequence[UUID]) -> tuple[list[JobRecord | None], datetime]:
    async with opened(target) as jobs:
        return [await jobs.storage.get_job(tracking_id) for tracking_id in ids], jobs.session.clock.now()


async def _cancel(target: str, ids: Sequence[UUID]) -> list[Cancellation]:
    async with opened(target) as jobs:
        return [await jobs.cancel_job(tracking_id) for tracking_id in ids]


async def _requeue(target: str, ids: Sequence[UUID], expire_after: timedelta | None) -> list[Requeue]:
    async with opened(target) as jobs:
        inspector = inspector_of(jobs)
        now = jobs.session.clock.now()
        expire_on = None if expire_after is None else now + expire_after
        return [await inspector.requeue_job(tracking_id, now=now, expire_on=expire_on) for tracking_id in ids]


def _report(ids: Sequence[UUID], answers: Sequence[StrEnum], *, done: StrEnum) -> None:
    """Print what became of each job, and end with FAILED unless all are *done*."""
    for tracking_id, answer in zip(ids, answers, strict=True):
        print(f"{tracking_id} {answer.replace('_', ' ')}")
    raise typer.Exit(ExitCode.DONE if all(answer == done for answer in answers) else ExitCode.FAILED)


def _listing(jobs: Iterable[JobRecord], now: datetime) -> Table:
    listing = table("tracking id", "queue", "status", "attempt", "when", "remark")
    listing.columns[0].no_wrap = True
    for job in jobs:
        listing.add_row(
            Text(str(job.tracking_id)),
            Text(printable(job.queue_id)),
            status_text(job.status),
            str(job.attempt),
            _moment(job, now),
            Text(_remark(job), "dim"),
        )
    return listing


def _moment(job: JobRecord, now: datetime) -> str:
    """Say what matters of the job's times, by where it is in its life."""
    match job.status:
        case JobStatus.PENDING:
            return f"due {when(job.dequeue_after, now)}"
        case JobStatus.RUNNING:
            return f"leased, ends {when(job.dequeue_after, now)}"
        case JobStatus.SUCCEEDED | JobStatus.FAILED | JobStatus.CANCELLED | JobStatus.EXPIRED:
            return when(job.finished_at, now) if job.finished_at is not None else ""
        case _:
            assert_never(job.status)


def _remark(job: JobRecord) -> str:
    """Return the last error's first line, or else the reported steps."""
    if job.errors and job.status is not JobStatus.SUCCEEDED:
        error = job.errors[-1]
        line = printable(f"{error.kind}: {error.message}".partition("\n")[0])
        return line if len(line) <= 60 else f"{line[:59]}…"
    steps = steps_of(job)
    return f"{steps['current_step']}/{steps['total_steps']} {steps['current_status'] or ''}".strip() if steps else ""


def _portrait(job: JobRecord, now: datetime, payloads: dict[str, object]) -> Group:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(job, now).items():
        facts.add_row(name, value if isinstance(value, Text) else Text(printable(value)))
    for name, payload in payloads.items():
        if payload is not None:
            facts.add_row(name, Text(printable(json.dumps(payload, ensure_ascii=False, indent=2))))
    errors = [
        Text(f"\nattempt {error.attempt}, {when(error.at, now)}: ", "bold")
        + Text(printable(f"{error.kind}: {error.message}"), "red")
        + Text(f"\n{printable(error.traceback).rstrip()}", "dim")
        for error in job.errors
    ]
    return Group(facts, *errors, Text(""))


def _facts(job: JobRecord, now: datetime) -> dict[str, Text | str]:
    facts: dict[str, Text | str] = {
        "job": str(job.tracking_id),
        "queue": job.queue_id,
        "status": status_text(job.status) + Text(f" ({_moment(job, now)})", "default"),
        "attempt": f"{job.attempt}" + (f", {job.lapses} of them lapsed" if job.lapses else ""),
        "priority": str(job.priority),
        "created": f"{job.created_at.isoformat()} ({when(job.created_at, now)})",
        "not before": f"{job.execute_after.isoformat()} ({when(job.execute_after, now)})",
        "expires": "never" if job.expire_on is None else f"{job.expire_on.isoformat()} ({when(job.expire_on, now)})",
        "worker": job.worker_id or "",
        "key": job.idempotency_key or "",
        "progress": _remark(job) if not job.errors or job.status is JobStatus.SUCCEEDED else "",
        "metadata": "\n".join(f"{name}={value}" for name, value in sorted(job.metadata.items())),
    }
    if job.finished_at is not None:
        took = job.finished_at - job.execute_after
        facts["finished"] = f"{job.finished_at.isoformat()} ({spell(took)} after it was due)"
    return {name: value for name, value in facts.items() if value}
