"""The board: what the demo's jobs do at this moment, drawn again a few times a second."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pannier import JobProgress, JobStatus
from pannier.cli.demo.plan import KINDS, Planned
from pannier.cli.demo.work import Crawl, Transcode
from pannier.cli.showing import STYLES

WAITING: Final = JobProgress(status=JobStatus.PENDING)
AGAIN: Final = Text("↻", "yellow")
SYMBOLS: Final = {
    JobStatus.PENDING: "○",
    JobStatus.RUNNING: "◐",
    JobStatus.SUCCEEDED: "●",
    JobStatus.FAILED: "✗",
    JobStatus.CANCELLED: "⊘",
    JobStatus.EXPIRED: "◌",
}
WITH_BARS: Final = (Transcode, Crawl)
BAR: Final = 31
"""The width of a bar: that of sixteen dots."""


class Board:
    """Remembers the latest progress of each job. Rich asks it for a picture whenever it draws."""

    def __init__(self, plan: Sequence[tuple[UUID, Planned]]) -> None:
        self._plan = plan
        self._latest = dict.fromkeys((tracking_id for tracking_id, _ in plan), WAITING)
        self._started: set[UUID] = set()

    def update(self, tracking_id: UUID, progress: JobProgress) -> None:
        """Remember *progress*."""
        self._latest[tracking_id] = progress
        if progress.status is JobStatus.RUNNING:
            self._started.add(tracking_id)

    def __rich__(self) -> RenderableType:
        rows = Table.grid()  # without padding, which not every rich counts alike; 79 columns in all
        rows.add_column(style="bold", min_width=18)
        rows.add_column(style="dim", min_width=24)
        rows.add_column(min_width=BAR + 1)
        rows.add_column(justify="right", min_width=5)
        for kind, manner in KINDS.items():
            self._add_kind(rows, kind, manner)
        return Group(rows, Text(""))

    def _add_kind(self, rows: Table, kind: type, manner: str) -> None:
        jobs = [(tracking_id, job) for tracking_id, job in self._plan if job.kind is kind]
        rows.add_row(kind.__name__, manner, self._dots(jobs), self._count(jobs))
        if kind in WITH_BARS:
            for tracking_id, job in sorted(jobs, key=lambda each: each[1].label):
                progress = self._latest[tracking_id]
                label = Text(f"  {job.label}", "default")
                rows.add_row(label, progress.current_status or "", _bar(progress), _percent(progress))

    def _dots(self, jobs: Iterable[tuple[UUID, Planned]]) -> Text:
        return Text(" ").join(self._symbol(tracking_id) for tracking_id, _ in jobs)

    def _symbol(self, tracking_id: UUID) -> Text:
        status = self._latest[tracking_id].status
        if status is JobStatus.PENDING and tracking_id in self._started:
            return AGAIN
        return Text(SYMBOLS[status], STYLES[status])

    def _count(self, jobs: Sequence[tuple[UUID, Planned]]) -> Text:
        ended = sum(self._latest[tracking_id].status.is_complete for tracking_id, _ in jobs)
        return Text(f"{ended}/{len(jobs)}", "bold" if ended == len(jobs) else "dim")


def _bar(progress: JobProgress) -> ProgressBar:
    style = STYLES[progress.status]
    return ProgressBar(
        total=100, completed=_percentage(progress), width=BAR, complete_style=style, finished_style=style
    )


def _percent(progress: JobProgress) -> Text:
    return Text(f"{_percentage(progress)}%", STYLES[progress.status])


def _percentage(progress: JobProgress) -> int:
    """Return how far a job is; a successful one has its result in the place of its progress."""
    return 100 if progress.status is JobStatus.SUCCEEDED else progress.percentage or 0
