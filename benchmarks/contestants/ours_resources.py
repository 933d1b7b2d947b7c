"""What pannier needs while nothing happens, and to be imported."""

import asyncio
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Final

from benchmarks.contestants.ours import Convert, url
from benchmarks.task import ROOT, Answer, Task
from pannier import HandlerRegistry, JobQueues

IMPORTS: Final = 11
DEPENDENCIES: Final = "import asyncio, attrs, cattrs, pluggy"


def idle(task: Task) -> Answer:
    """Let a worker wait, in a process that has nothing else."""
    return asyncio.run(_idle(task))


async def _idle(task: Task) -> Answer:
    handlers = HandlerRegistry()

    @handlers.handler()
    async def convert(_: Convert) -> int:
        return 0

    async with JobQueues(url(task), handlers=handlers) as jobs, jobs.worker():
        await asyncio.sleep(1)
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(task.seconds)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"% of a core": share * 100, "peak MB": peak}


def imports(_: Task) -> Answer:
    """Import pannier, and its dependencies alone, in new processes by turns."""
    ours, theirs = [], []
    for _round in range(IMPORTS):
        theirs.append(_cpu_seconds(DEPENDENCIES))
        ours.append(_cpu_seconds("import pannier"))
    return {"ms": median(ours) * 1e3, "of its dependencies": median(ours) / median(theirs)}


def _cpu_seconds(statement: str) -> float:
    """Return the processor time of a statement in a new interpreter, the interpreter's own start left out."""
    script = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)
