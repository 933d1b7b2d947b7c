"""
The picture of a job's states, made by trying every transition on every state.

Where the states stand is chosen by hand; which arrows there are and what they are called is found out.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final
from uuid import UUID

from attrs import evolve, frozen

from pannier.records import JobError, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier.transitions import cancel, claim, expire, is_claimable, is_expirable, requeue, settle

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)

PLACES: Final[Mapping[JobStatus, tuple[int, int]]] = {
    JobStatus.PENDING: (120, 200),
    JobStatus.RUNNING: (440, 200),
    JobStatus.SUCCEEDED: (760, 60),
    JobStatus.FAILED: (760, 155),
    JobStatus.CANCELLED: (760, 250),
    JobStatus.EXPIRED: (760, 345),
}
WIDTH, HEIGHT = 150, 40


@frozen
class Arrow:
    """A transition that exists: from one state to another, by its names."""

    before: JobStatus
    after: JobStatus
    names: tuple[str, ...]


def a_job(status: JobStatus) -> JobRecord:
    """Return a job of *status* that is due, whose lease has lapsed where it has one."""
    job = JobRecord(
        tracking_id=UUID(int=1),
        queue_id="queue",
        command=Payload(None),
        execute_after=NOW - SECOND,
        expire_on=None,
        created_at=NOW - SECOND,
    )
    if status is JobStatus.PENDING:
        return job
    running = claim(job, worker_id="worker", now=NOW - SECOND, lease_for=SECOND)
    if status is JobStatus.RUNNING:
        return running
    return evolve(running, status=status, finished_at=NOW)


def settled(outcome: Outcome) -> Callable[[JobRecord], JobRecord]:
    """Return the transition that settles a job with *outcome*."""

    def apply(job: JobRecord) -> JobRecord:
        return settle(job, Settlement(Lease(job.tracking_id, max(job.fence, 1)), outcome), now=NOW).job

    return apply


def claimed(job: JobRecord) -> JobRecord:
    """Claim *job* where a claim may."""
    return claim(job, worker_id="another", now=NOW, lease_for=SECOND) if is_claimable(job, NOW) else job


def expired(job: JobRecord) -> JobRecord:
    """Let the expiry of *job* come, and mark it where a purge would."""
    due = job if job.is_complete else evolve(job, expire_on=NOW)
    return expire(due, now=NOW) if is_expirable(due, NOW) else job


ERROR: Final = JobError(attempt=1, at=NOW, kind="Error", message="")
TRANSITIONS: Final[Mapping[str, Callable[[JobRecord], JobRecord]]] = {
    "claim": claimed,
    "Succeeded": settled(Succeeded()),
    "Failed": settled(Failed(ERROR)),
    "Retry": settled(Retry(NOW + SECOND, ERROR)),
    "Release": settled(Release()),
    "cancel": lambda job: cancel(job, now=NOW)[1],
    "expire": expired,
    "requeue": lambda job: requeue(job, now=NOW, expire_on=None)[1],
}


def arrows() -> list[Arrow]:
    """Return every arrow, found by trying each transition on each state."""
    names: dict[tuple[JobStatus, JobStatus], list[str]] = {}
    for status, (name, transition) in product(JobStatus, TRANSITIONS.items()):
        before = a_job(status)
        after = transition(before)
        if after != before:
            names.setdefault((status, after.status), []).append(name)
    return [Arrow(before, after, tuple(found)) for (before, after), found in names.items()]


def states_picture() -> str:
    """Return the picture as SVG."""
    lines, names = zip(*map(drawn_arrow, arrows()), strict=True)
    drawn = "\n".join([*lines, *dict.fromkeys(names), *drawn_states()])  # arrows that share a line share its name
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 420" role="img" font-family="sans-serif" font-size="14">
<title>The states of a job and what leads from one to another</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#666"/></marker></defs>
<rect width="900" height="420" fill="#fff"/>
{drawn}
</svg>
"""


def drawn_states() -> Iterator[str]:
    """Yield a box for each state, those that are complete with a double line."""
    for status, (x, y) in PLACES.items():
        width = 3 if a_job(status).is_complete else 1.5
        box = f'x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="8"'
        yield f'<rect {box} fill="#f4f1ea" stroke="#333" stroke-width="{width}"/>'
        yield f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="#222">{status.name}</text>'


def drawn_arrow(arrow: Arrow) -> tuple[str, str]:
    """Return the line of *arrow*, and its names, which keep the lines that cross them at a distance."""
    (x1, y1), (x2, y2) = PLACES[arrow.before], PLACES[arrow.after]
    label = ", ".join(arrow.names)
    half = WIDTH // 2
    if arrow.before is arrow.after:
        path = f"M{x1 - 30} {y1 - 20}C{x1 - 50} {y1 - 75} {x1 + 50} {y1 - 75} {x1 + 30} {y1 - 20}"
        at = (x1, y1 - 68)
        label += " (lease lapsed)"
    elif arrow.before is JobStatus.PENDING and arrow.after is JobStatus.RUNNING:
        path, at = f"M{x1 + half} {y1 - 8}L{x2 - half} {y2 - 8}", ((x1 + x2) // 2, y1 - 14)
    elif arrow.before is JobStatus.RUNNING and arrow.after is JobStatus.PENDING:
        path, at = f"M{x1 - half} {y1 + 8}L{x2 + half} {y2 + 8}", ((x1 + x2) // 2, y1 + 24)
    elif arrow.before is JobStatus.RUNNING:
        path, at = f"M{x1 + half} {y1}L{x2 - half} {y2}", ((x1 + x2) // 2 + 10, (y1 + y2) // 2 - 6)
    elif arrow.before is JobStatus.PENDING:
        low = 290 if arrow.after is JobStatus.CANCELLED else 350
        path = f"M{x1} {y1 + 20}C{x1} {low} {x1 + 200} {low} {x2 - half} {y2 + 8}"
        at = (x1 + 230, low - 22)
    else:
        path, at = f"M{x1 + half} {y1}H870V400H{x2 - 40}V{y2 + 24}", (440, 394)  # one line for all of them
    halo = 'stroke="#fff" stroke-width="4" paint-order="stroke"'
    return (
        f'<path d="{path}" fill="none" stroke="#666" marker-end="url(#head)"/>',
        f'<text x="{at[0]}" y="{at[1]}" text-anchor="middle" fill="#444" font-size="12" {halo}>{label}</text>',
    )
