"""
The command `pannier torture`: kill, freeze and cut off real workers on a storage, and count what was lost.

`python -m pannier_testing.torture` is the same. A program that has a `Server` at hand passes it on as the context's
object: `app(arguments, obj=server)`.
"""

import asyncio
import os
import secrets
import shlex
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer
from attrs import frozen

from pannier.errors import PannierError
from pannier.urls import StorageUrl
from pannier_testing.subject import Place, Subject
from pannier_testing.torture.plan import FaultKind, Plan, Server
from pannier_testing.torture.record import Record, engine_of, read_records, record_of, write_record
from pannier_testing.torture.report import page
from pannier_testing.torture.rig import torture as run_torture

app = typer.Typer(pretty_exceptions_enable=False)  # they may print the values of variables, secrets among them


@frozen
class CommandServer:
    """A server that commands kill and start."""

    crash_command: str
    start_command: str

    def crash(self) -> None:
        """Run the one."""
        subprocess.run(shlex.split(self.crash_command), check=True)

    def start(self) -> None:
        """Run the other."""
        subprocess.run(shlex.split(self.start_command), check=True)


@app.command()
def torture(
    context: typer.Context,
    url: Annotated[str | None, typer.Argument(help="the storage, with {tmp} or {namespace} in its URL")] = None,
    *,
    jobs: Annotated[int, typer.Option(min=1, help="how many jobs are queued")] = 2000,
    workers: Annotated[int, typer.Option(min=2, help="how many worker processes")] = 2,
    patience: Annotated[float, typer.Option(help="seconds without any progress after which a run has failed")] = 120.0,
    lease: Annotated[float, typer.Option(help="seconds of a lease")] = 3.0,
    pause: Annotated[float, typer.Option(min=0, help="seconds of calm after each fault")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="decides which faults happen when; repeat a run's plan")] = None,
    kills: Annotated[int, typer.Option(min=0, help="SIGKILL a process and start another")] = 0,
    freezes: Annotated[int, typer.Option(min=0, help="SIGSTOP workers until their leases have lapsed")] = 0,
    clocks: Annotated[int, typer.Option(min=0, help="step a wall clock by an hour; others are 30 s off")] = 0,
    network: Annotated[int, typer.Option(min=0, help="reset, refuse, slow down, silence connections")] = 0,
    servers: Annotated[int, typer.Option(min=0, help="kill and start the server, by the two commands")] = 0,
    disks: Annotated[int, typer.Option(min=0, help="let no file grow for a while (Linux)")] = 0,
    memory: Annotated[int, typer.Option(min=0, help="let a process have no more memory for a while (Linux)")] = 0,
    readonly: Annotated[int, typer.Option(min=0, help="let no file be written for a while (Linux, root)")] = 0,
    crash_command: Annotated[str, typer.Option(help="kills the server")] = "",
    start_command: Annotated[str, typer.Option(help="starts it again, and returns when it answers")] = "",
    adapter: Annotated[list[str] | None, typer.Option(help="import path of a plugin that is not installed")] = None,
    engine: Annotated[str, typer.Option(help="name and version of the engine, for the record")] = "",
    journal: Annotated[Path | None, typer.Option(help="keep the journal of the run in this file")] = None,
    record: Annotated[Path | None, typer.Option(help="write a record of the run into this folder")] = None,
    report: Annotated[Path | None, typer.Option(help="make a page of the records in this folder instead")] = None,
) -> None:
    """
    Let real workers execute jobs on a storage while faults happen to them, and hold them to the invariants.

    Exits with 0 when nothing was lost, done twice or done at a wrong time, 1 when something was.
    """
    if report is not None:
        typer.echo(page(read_records(report)), nl=False)
        return
    if url is None:
        raise typer.BadParameter("name the storage, such as 'sqlite:///{tmp}/jobs.db'")
    faults = dict(zip(FaultKind, (kills, freezes, clocks, network, servers, disks, memory, readonly), strict=True))
    chosen = secrets.randbits(16) if seed is None else seed
    plan = Plan(
        jobs=jobs,
        faults=faults,
        seed=chosen,
        workers=workers,
        lease_seconds=lease,
        pause_seconds=pause,
        patience_seconds=patience,
    )
    server = CommandServer(crash_command, start_command) if crash_command and start_command else context.obj
    if journal is not None:
        _make(journal)
    try:
        made = run(url, plan, server=server, adapters=tuple(adapter or ()), engine=engine, journal=journal)
    except PannierError as error:
        raise typer.BadParameter(str(error)) from error
    show(made)
    if record is not None:
        typer.echo(f"written to {write_record(made, record)}")
    raise typer.Exit(1 if made.findings else 0)


def _make(journal: Path) -> None:
    """Make the file before the run, which may be long, not after it."""
    try:
        journal.touch()
    except OSError as error:
        raise typer.BadParameter(f"the journal can't be kept: {error}") from error


def run(
    url: str,
    plan: Plan,
    *,
    server: Server | None = None,
    adapters: tuple[str, ...] = (),
    engine: str = "",
    journal: Path | None = None,
) -> Record:
    """Run *plan* on the storage at *url*, a template, and return the record."""

    def fill(place: Place) -> str:
        return place.fill(url)

    subject = Subject(label=str(StorageUrl(url)), url_for=fill, adapters=adapters)
    scheme = StorageUrl(url).scheme
    began = time.monotonic()
    verdict = asyncio.run(run_torture(subject, plan, server=server, journal=journal))
    return record_of(
        verdict,
        plan,
        storage=scheme,
        engine=engine or engine_of(scheme),
        seconds=time.monotonic() - began,
        cpus=os.cpu_count() or 1,
    )


def show(record: Record) -> None:
    """Print what came of a run."""
    faults = ", ".join(f"{count} x {kind}" for kind, count in record.faults.items()) or "no faults, a race"
    typer.echo(
        f"{record.storage}: {record.plan['jobs']} jobs, {faults}, {record.seconds} s, seed {record.plan['seed']}"
    )
    for name, count in record.counts.items():
        typer.echo(f"  {name.replace('_', ' '):32} {count:>10g}")
    for finding in record.findings:
        typer.echo(f"  {finding.invariant}: {finding.message}")
