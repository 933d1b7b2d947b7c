"""
Measure, and write JSON, tables and plots.

    uv run python -m benchmarks --measures drain --storages memory,sqlite --rounds 5
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.plan import MEASURES, STORAGES, cases
from benchmarks.plot import plot
from benchmarks.report import as_json, as_tables, summaries
from benchmarks.roster import CONTESTANTS
from benchmarks.rounds import run_rounds

OUT: Final = Path(__file__).parent / "out"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--measures", default=",".join(MEASURES), help="which, separated by commas (default: all)")
    parser.add_argument("--storages", default=",".join(STORAGES), help="where, separated by commas (default: all)")
    parser.add_argument("--only", help="who, separated by commas (default: everybody)")
    parser.add_argument("--case", default="", help="only cases whose name contains this, such as 'concurrency 100'")
    parser.add_argument("--rounds", type=int, default=5, help="how often everybody takes a turn (default: 5)")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write to")
    asked = parser.parse_args(arguments)

    wanted = [case for case in cases(asked.measures.split(","), asked.storages.split(",")) if asked.case in str(case)]
    names = asked.only.split(",") if asked.only else [one.name for one in CONTESTANTS]
    contestants = [one for one in CONTESTANTS if one.name in names]
    samples = run_rounds(wanted, contestants, rounds=asked.rounds, tell=lambda line: print(line, flush=True))

    found = summaries(samples)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "results.json").write_text(json.dumps(as_json(samples), indent=1) + "\n")
    tables = as_tables(found)
    (asked.out / "results.md").write_text(tables + "\n")
    for measure in asked.measures.split(","):
        shown = [summary for summary in found if summary.case.measure == measure and summary.unit == "jobs/s"]
        if shown:
            (asked.out / f"{measure}.svg").write_text(plot(measure, shown))
    print(f"\n{tables}\n\nwritten to {asked.out}")


if __name__ == "__main__":
    main()
