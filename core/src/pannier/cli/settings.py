"""What the command line says about a worker, for this process and for those that it starts."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import typer
from attrs import frozen

from pannier.cli.durations import parse_duration
from pannier.cli.logs import LogFormat, LogLevel
from pannier.records import COMPLETE, JobStatus
from pannier.worker.options import RETENTION, WorkerOptions


@frozen(kw_only=True)
class WorkerSettings:
    """
    The options of `pannier worker` that each of its processes gets. None and empty: the default of `WorkerOptions`.

    Attributes:
        target: MODULE:JOBS.
        queues: Names of queues.
        max_running: In each process.
        grace: After a stop was asked for.
        lease: How long a lease lasts.
        probe: How often an idle worker asks.
        keep: How long complete jobs are kept, where that differs from the default; None: for ever.
        log_level: How much is logged.
        log_format: And how.
    """

    target: str
    queues: tuple[str, ...]
    max_running: int | None
    grace: timedelta | None
    lease: timedelta | None
    probe: timedelta | None
    keep: Mapping[JobStatus, timedelta | None]
    log_level: LogLevel
    log_format: LogFormat

    def options(self) -> WorkerOptions:
        """
        Return them as a worker takes them.

        Raises:
            ConfigurationError: They don't fit together.
        """
        defaults = WorkerOptions()
        lease_for = defaults.lease_for if self.lease is None else self.lease
        keep = {**RETENTION, **self.keep}
        return WorkerOptions(
            queues=frozenset(self.queues) or None,
            max_running=self.max_running,
            shutdown_grace=defaults.shutdown_grace if self.grace is None else self.grace,
            lease_for=lease_for,
            renew_every=lease_for / 3,
            probe_every=self.probe,
            keep={status: span for status, span in keep.items() if span is not None},
        )

    def arguments(self) -> list[str]:
        """Return them as arguments of `pannier worker`."""
        spans = {"--grace": self.grace, "--lease": self.lease, "--probe": self.probe}
        options = [
            *(f"--queues={name}" for name in self.queues),
            *([f"--max-running={self.max_running}"] if self.max_running is not None else ()),
            *(f"{name}={_seconds(span)}" for name, span in spans.items() if span is not None),
            *(
                f"--keep={status}={_seconds(span) if span is not None else 'forever'}"
                for status, span in self.keep.items()
            ),
            f"--log-level={self.log_level}",
            f"--log-format={self.log_format}",
        ]
        return [*options, "--", self.target]


def parse_retention(texts: Iterable[str]) -> dict[JobStatus, timedelta | None]:
    """
    Read "failed=30d" and "failed=forever".

    Raises:
        BadParameter: One is neither.
    """
    kept: dict[JobStatus, timedelta | None] = {}
    for text in texts:
        name, _, span = text.partition("=")
        if name not in COMPLETE:
            known = ", ".join(sorted(COMPLETE))
            raise typer.BadParameter(f"{text!r} names no status that ends a job ({known})", param_hint="--keep")
        kept[JobStatus(name)] = None if span == "forever" else parse_duration(span)
    return kept


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.6f}s"
