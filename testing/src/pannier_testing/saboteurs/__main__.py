"""
Try the saboteurs: `python -m pannier_testing.saboteurs [NAME ...] [--seed N] [--seeds N] [--matrix]`.

Prints for each which rule caught it, and by which assertion; with `--matrix`, by which others it was caught, too. Ends
with 1 if one was not caught, or broke more than it may, or an angel was caught.
"""

import argparse
import sys
from collections.abc import Sequence

from pannier_testing.rules import collect_tests
from pannier_testing.runner import Settings, Status
from pannier_testing.saboteurs.making import Saboteur
from pannier_testing.saboteurs.plugin import collect_saboteurs
from pannier_testing.saboteurs.trying import Attempt, try_mapped_rule, try_tests

PASSES_AT_LEAST = 0.8
"""What a saboteur has to pass of the other rules that it can run: it is wrong in one thing, not broken."""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pannier_testing.saboteurs", description="Try the saboteurs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds each must be caught by")
    parser.add_argument("--matrix", action="store_true", help="all rules on each, not only the one that it breaks")
    asked = parser.parse_args(arguments)
    chosen = [saboteur for saboteur in collect_saboteurs() if not asked.names or saboteur.name in asked.names]
    seeds = range(asked.seed, asked.seed + asked.seeds)
    is_good = [_is_as_it_should(saboteur, seed, asked.matrix) for saboteur in chosen for seed in seeds]
    _print(f"{len(is_good)} tries, {is_good.count(False)} not as they should be")
    return 0 if all(is_good) and is_good else 1


def _is_as_it_should(saboteur: Saboteur, seed: int, is_matrix: bool) -> bool:  # noqa: FBT001  # a flag of the command
    settings = Settings(seed=seed)
    if saboteur.breaks is None or is_matrix:
        attempt = try_tests(saboteur, collect_tests(), settings)
    else:
        attempt = try_mapped_rule(saboteur, settings)
    for line in lines_of(attempt):
        _print(line)
    return not faults_of(attempt)


def lines_of(attempt: Attempt) -> list[str]:
    """Word *attempt*: what caught the saboteur, its own rule first, and what is not as it should be."""
    faults = [f"  {fault}" for fault in faults_of(attempt)]
    if attempt.saboteur.breaks is None:
        return [f"{attempt.saboteur.name} {'is an angel, and was caught' if faults else 'passes everything'}", *faults]
    others = [kill for kill in attempt.kills if kill is not attempt.kill]
    also = [f"  and by {kill.rule} ({kill.test}): {kill.assertion}" for kill in others]
    return [str(attempt), *also, *faults]


def faults_of(attempt: Attempt) -> list[str]:
    """Return what is not as it should be: an angel that was caught, a saboteur that was not, or breaks too much."""
    if attempt.saboteur.breaks is None:
        bad = [outcome for outcome in attempt.outcomes if outcome.status in (Status.FAILED, Status.ERROR)]
        return [f"{outcome.rule} {outcome.test}: {outcome.message}" for outcome in bad]
    faults = [] if attempt.kill is not None else ["not caught"]
    others = [o for o in attempt.outcomes if o.rule != attempt.saboteur.breaks and o.status is not Status.NOT_OFFERED]
    rules = {outcome.rule for outcome in others}
    broken = {o.rule for o in others if o.status is not Status.PASSED}
    if len(broken) > (1 - PASSES_AT_LEAST) * len(rules):
        faults.append(f"passes only {len(rules) - len(broken)} of {len(rules)} other rules; not {sorted(broken)}")
    return faults


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
