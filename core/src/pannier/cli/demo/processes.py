"""The demo's other processes: the worker that executes the jobs, and the one that reads what became of them."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from pannier import PannierError
from pannier.cli.demo.verdict import Found

PANNIER = (sys.executable, "-m", "pannier.cli")


class DemoError(PannierError):
    """Something in the demo is not as it should be."""


@asynccontextmanager
async def worker_process(url: str, log: Path) -> AsyncIterator[Process]:
    """
    Run `pannier worker` on the demo's job queues, its log in the file *log*.

    Its standard input is a pipe: when that ends, so does the worker, however this process ends.
    """
    with log.open("wb") as output:
        worker = await asyncio.create_subprocess_exec(
            *(*PANNIER, "worker", "--stop-at-eof", "pannier.cli.demo.worker:jobs"),
            env=_environment(url),
            stdin=PIPE,
            stdout=output,
            stderr=output,
        )
    try:
        yield worker
    finally:
        if worker.stdin is not None:
            worker.stdin.close()
        try:
            await asyncio.wait_for(worker.wait(), 10)
        except TimeoutError:
            worker.kill()
            await worker.wait()


async def read_back(url: str, run: str) -> Mapping[UUID, Found]:
    """
    Let another process read the jobs of *run* from the storage.

    Raises:
        DemoError: It could not.
    """
    arguments: Sequence[str] = ("jobs", "list", f"--metadata=demo={run}", "--limit=1000", "--payloads", "--json")
    reader = await asyncio.create_subprocess_exec(
        *PANNIER, *arguments, env=_environment(url), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    out, err = await reader.communicate()
    if reader.returncode != 0:
        raise DemoError(f"the jobs can't be read back: {err.decode(errors='replace').strip()}")
    jobs = [json.loads(line) for line in out.decode().splitlines()]
    return {UUID(job["tracking_id"]): job for job in jobs}


def _environment(url: str) -> Mapping[str, str]:
    """Hand the URL over in the environment, where no list of processes shows its password."""
    return {**os.environ, "PANNIER_STORAGE": url, "PYTHONIOENCODING": "utf-8"}
