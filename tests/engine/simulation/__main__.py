"""
Simulate many seeds, or show the history of one.

`python -m tests.engine.simulation --seeds 10000` · `python -m tests.engine.simulation --show 23`

With `--record reliability/trials` a run leaves what RELIABILITY.md is made from.
"""

import argparse
import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.engine.simulation.run import Report, run
from tests.trials import here_and_now, write_trial


def main() -> int:
    """Do what the command line says. Return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write a record of the run into this folder")
    parser.add_argument("--show", type=int, metavar="SEED", help="show the history of this seed, and nothing else")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.show is not None:
        return show(run(arguments.show))
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    began = time.monotonic()
    failed, counts = simulate(seeds, arguments.processes)
    if arguments.record is not None:
        keep(seeds, failed, counts, seconds=time.monotonic() - began, folder=arguments.record)
    return 1 if failed else 0


def show(report: Report) -> int:
    """Print one history."""
    say(*report.trace, *report.violations, *report.shortcomings)
    return 1 if report.violations else 0


def simulate(seeds: range, processes: int) -> tuple[int, Counter[str]]:
    """Run all *seeds*; print those that broke a rule, and return how many did and what there was in all of them."""
    counts: Counter[str] = Counter()
    failed = 0
    with ProcessPoolExecutor(processes) as pool:
        for report in pool.map(run_quietly, seeds, chunksize=10):
            counts += report.counts
            failed += bool(report.violations or report.shortcomings)
            for story in (*report.violations, *report.shortcomings):
                say(f"seed {report.seed}: {story}")
    say(
        f"{len(seeds)} seeds, {failed} of them failed: {', '.join(f'{n} {name}' for name, n in sorted(counts.items()))}"
    )
    return failed, counts


def keep(seeds: range, failed: int, counts: Counter[str], *, seconds: float, folder: Path) -> None:
    """Write a record of a run."""
    trial = here_and_now(
        f"simulation-seeds{len(seeds)}-first{seeds.start}",
        tried="whole workers on virtual time",
        command=f"python -m tests.engine.simulation --seeds {len(seeds)} --first {seeds.start}",
        unit="seeds",
        times=len(seeds),
        failed=failed,
        counts=counts,
        seconds=seconds,
    )
    say(f"written to {write_trial(trial, folder)}")


def run_quietly(seed: int) -> Report:
    """Run *seed* in a process of the pool."""
    logging.disable(logging.CRITICAL)
    return run(seed)


def say(*lines: str) -> None:
    """Print *lines*."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
