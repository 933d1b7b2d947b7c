"""`pannier worker`: a process, or several, that execute jobs until they are asked to stop."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from pannier.cli.durations import parse_duration
from pannier.cli.exits import ExitCode
from pannier.cli.health import fresh_health_file, show_health
from pannier.cli.logs import LogFormat, LogLevel, configure_logging
from pannier.cli.processes import supervise
from pannier.cli.settings import WorkerSettings, parse_retention
from pannier.cli.stopping import stop_at_end_of_input, stop_on_signals
from pannier.cli.targets import Target, TargetError, job_queues_of
from pannier.queues import JobQueues
from pannier.worker.options import WorkerOptions

logger = logging.getLogger("pannier.worker")

DURATION: Final = "DURATION"


def worker(
    target: Target,
    *,
    queues: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="Work on these queues only; by default on all that have a handler."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="How many worker processes to start. One that dies is replaced.")
    ] = 1,
    max_running: Annotated[
        int | None,
        typer.Option(min=1, help="How many jobs run at once in each process, over all of its queues."),
    ] = None,
    grace: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_duration,
            metavar=DURATION,
            help="How long running handlers may go on after a stop was asked for; 30s by default.",
        ),
    ] = None,
    lease: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_duration,
            metavar=DURATION,
            help="How long a job stays leased to a worker that has died; renewed three times as often; 30s by default.",
        ),
    ] = None,
    probe: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_duration,
            metavar=DURATION,
            help="How often an idle worker asks for jobs; by default each 60s where the storage pushes, else each 1s.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS=DURATION",
            help="How long jobs that ended so are kept, or 'forever'. By default succeeded and cancelled ones 24h, "
            "failed and expired ones 30d. Repeatable.",
        ),
    ] = None,
    health_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Touch this file every 5 s while all is well; one older than 30 s is no sign of life.",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is logged.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="What a log line looks like.")] = LogFormat.TEXT,
    stop_at_eof: Annotated[
        bool,
        typer.Option("--stop-at-eof", help="Stop also when the standard input ends, as when the parent process dies."),
    ] = False,
) -> None:
    """
    Execute jobs until SIGTERM or SIGINT.

    Then no new jobs are claimed, running handlers get the grace period to end, and what still runs is given back
    without costing an attempt. A second signal ends the process at once.
    """
    settings = WorkerSettings(
        target=target,
        queues=tuple(name for names in queues or () for name in names.split(",") if name),
        max_running=max_running,
        grace=grace,
        lease=lease,
        probe=probe,
        keep=parse_retention(keep or ()),
        log_level=log_level,
        log_format=log_format,
    )
    if processes > 1:
        configure_logging(log_level, log_format)
        raise typer.Exit(asyncio.run(supervise(settings.arguments(), processes=processes, health=health_file)))
    jobs = _with_handlers(target)
    configure_logging(log_level, log_format)
    asyncio.run(work(jobs, settings.options(), health=health_file, start_watch=_watches(stop_at_eof)))


async def work(
    jobs: JobQueues,
    options: WorkerOptions,
    *,
    health: Path | None = None,
    start_watch: Callable[[asyncio.Event], None] | None = None,
) -> None:
    """
    Execute jobs of *jobs* until a stop is asked for.

    Args:
        jobs: Unopened.
        options: How.
        health: Where to show signs of life.
        start_watch: Starts what else, besides signals, sets the event that stops the worker.

    Raises:
        PannierError: The worker could not be started.
        BaseException: What a part of the worker died of.
    """
    stop = asyncio.Event()
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        if health is not None:
            stack.enter_context(fresh_health_file(health))
        async with jobs.worker(options, overrun=leave_at_once) as worker:
            if start_watch is not None:
                start_watch(stop)
            waits = [asyncio.create_task(stop.wait()), asyncio.create_task(worker.wait_until_failed())]
            if health is not None:
                waits.append(asyncio.create_task(show_health(health, jobs.storage)))
            try:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in waits:
                    waiting.cancel()
                await asyncio.wait(waits)
            logger.info(
                "stopping: %d running jobs have %g s to end", worker.running, options.shutdown_grace.total_seconds()
            )
    for ended in done:
        ended.result()


def leave_at_once() -> None:
    """End the process before a lease does whose handler can't be stopped (E6). Called from the keeper's thread."""
    os._exit(ExitCode.OVERRUN)


def _with_handlers(target: str) -> JobQueues:
    jobs = job_queues_of(target)
    if "://" in target:
        raise TargetError(jobs.storage_name, "a storage has no handlers; a worker needs MODULE:JOBS")
    return jobs


def _watches(stop_at_eof: bool) -> Callable[[asyncio.Event], None] | None:
    return stop_at_end_of_input if stop_at_eof else None
