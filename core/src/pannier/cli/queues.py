"""`pannier queues` counts jobs; `pannier purge` is for when the workers don't get to it."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pannier.cli.durations import parse_duration
from pannier.cli.jobs import Json, Metadata, Queues, Statuses, job_filter
from pannier.cli.showing import STYLES, console, print_json, table
from pannier.cli.targets import Target, inspector_of, opened
from pannier.cli.words import printable
from pannier.inspection import JobFilter
from pannier.purging import Purged, StaleJobs
from pannier.records import COMPLETE, JobStatus

PURGED_BY_DEFAULT = (JobStatus.SUCCEEDED, JobStatus.CANCELLED)

Counts = Mapping[tuple[str, JobStatus], int]


def queues(target: Target, queue: Queues = None, metadata: Metadata = None, as_json: Json = False) -> None:
    """Count the jobs of each queue by status."""
    names, counts = asyncio.run(_count(target, job_filter(queue, None, metadata)))
    if as_json:
        print_json(
            {"queue_id": name} | {status.value: counts.get((name, status), 0) for status in JobStatus} for name in names
        )
    else:
        console().print(_counted(names, counts) if names else Text("no jobs", "dim"))


def purge(
    target: Target,
    older_than: Annotated[
        timedelta,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Delete jobs that ended longer ago than this."),
    ],
    status: Statuses = None,
    queue: Queues = None,
) -> None:
    """
    Delete jobs that ended some time ago, and mark EXPIRED what is past its expiry.

    Workers do both on their own; this is for emergencies. Unfinished jobs are never deleted. Failed and expired jobs,
    which are kept for a look at them, are deleted only where --status names them.
    """
    statuses = status or PURGED_BY_DEFAULT
    for each in statuses:
        if each not in COMPLETE:
            raise typer.BadParameter(f"{each.value!r} is no status that ends a job", param_hint="--status")
    keep = dict.fromkeys(statuses, older_than)
    purged = asyncio.run(_purge(target, keep, frozenset(queue) if queue else None))
    print(f"deleted {purged.deleted}, marked expired {purged.expired}")


async def _count(target: str, wanted: JobFilter) -> tuple[list[str], Counts]:
    """Return the names of all queues that hold jobs or have a handler, and the counts."""
    async with opened(target) as jobs:
        counts = await inspector_of(jobs).count_jobs(wanted)
        known = {registration.queue_id for registration in jobs.registry} if wanted.queue_ids is None else set()
        return sorted({name for name, _ in counts} | known | (wanted.queue_ids or set())), counts


async def _purge(target: str, keep: Mapping[JobStatus, timedelta], queue_ids: frozenset[str] | None) -> Purged:
    expired = deleted = 0
    async with opened(target) as jobs:
        now = jobs.session.clock.now()
        while True:
            step = await jobs.storage.purge_stale_jobs(StaleJobs(now=now, keep=keep, queue_ids=queue_ids))
            if step == Purged(0, 0):
                return Purged(expired, deleted)
            expired, deleted = expired + step.expired, deleted + step.deleted


def _counted(names: Iterable[str], counts: Counts) -> Table:
    counted = table("queue", *(status.value for status in JobStatus))
    for column in counted.columns[1:]:
        column.justify = "right"
    for name in names:
        counted.add_row(
            Text(printable(name)), *(_number(counts.get((name, status), 0), status) for status in JobStatus)
        )
    return counted


def _number(count: int, status: JobStatus) -> Text:
    return Text(f"{count:,}", STYLES[status]) if count else Text("·", "dim")
