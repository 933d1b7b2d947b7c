"""RELIABILITY.md, made from the records in `reliability/`: of the torture rig's runs, and of tests' long runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.trials import Trial, read_trials

from pannier_testing.torture.record import read_records
from pannier_testing.torture.report import page

RECORDS: Final = Path(__file__).parents[2] / "reliability"
TRIALS: Final = RECORDS / "trials"

HEAD: Final = """
## Without real processes

What needs more tries than real processes can make, from the records in [reliability/trials/](reliability/trials/). The
simulation runs whole workers, the engine's own code, on virtual time: processes that die and freeze, clocks that are
wrong, a storage that refuses, hangs and loses answers, all by seed. A seed counts as failed if it breaks one of the
rules E1-E10 and E12-E16 or of the invariants I1-I8, or sees fewer than 5 faults, 3 lapsed leases and 3 cancelled jobs
that were running. The codec is fuzzed: what it writes is read back exactly, or it is refused.

| tried | times | failed | among them | Python | on | took |
| --- | ---: | ---: | --- | --- | --- | ---: |
"""

FOUND: Final = """
An earlier run of the ten thousand seeds failed one, 6747, and misjudged it: a handler in a thread was stopped, as it
must be, under a lease that a slow claim had given late, and looked at its token when that had just been renewed. The
check is mended. Of the codec's examples one showed a fault of a test, which took what is left of `4.24e+16`, `4.24e+1`,
for no number; that test was run again as a whole.
"""


def reliability_page() -> str:
    """Return the page."""
    rows = "".join(f"{row}\n" for row in _rows(read_trials(TRIALS)))
    return page(read_records(RECORDS)) + HEAD + rows + FOUND


def _rows(trials: Sequence[Trial]) -> Iterator[str]:
    for trial in trials:
        among = ", ".join(f"{count:,} {name}" for name, count in trial.counts.items())
        yield (
            f"| [{trial.tried}](reliability/trials/{trial.name}.json): `{trial.command}` "
            f"| {trial.times:,} {trial.unit} | {trial.failed:,} | {among} | {trial.python} | {trial.on} "
            f"| {trial.seconds:,.0f} s |"
        )
