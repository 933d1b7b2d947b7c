"""
Rounds: everybody takes a turn in each, so that whatever the machine does meanwhile meets all of them.

Every sample is a process of its own.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from attrs import frozen

from benchmarks.environments import python_of
from benchmarks.plan import Case
from benchmarks.roster import Contestant
from benchmarks.servers import Servers, running
from benchmarks.task import ROOT, Answer, Task

TIMEOUT_SECONDS: Final = 300


@frozen(kw_only=True)
class Sample:
    """What one contestant measured in one round; `answer` None: it failed, and `error` says how."""

    case: Case
    contestant: str
    round: int
    answer: Answer | None
    error: str = ""


def run_rounds(
    cases: Sequence[Case], contestants: Sequence[Contestant], *, rounds: int, tell: Callable[[str], None]
) -> list[Sample]:
    """Let all *contestants* take their samples of all *cases*, round by round."""
    samples = []
    with running(case.storage for case in cases) as servers:
        for number in range(rounds):
            for case in cases:
                for contestant in _taking_part(contestants, case):
                    sample = take_sample(contestant, case, number, servers)
                    samples.append(sample)
                    tell(f"round {number + 1}: {case}: {contestant.name}: {_worded(sample)}")
    return samples


def take_sample(contestant: Contestant, case: Case, number: int, servers: Servers) -> Sample:
    """Let *contestant* measure *case* in a new process, with an empty folder and an empty database."""
    asked = case.with_at_most(contestant.most) if "jobs" in case.numbers else case
    with TemporaryDirectory(prefix="pannier-bench-") as folder, servers.database(case.storage) as server:
        numbers = {**asked.numbers, **contestant.settings}
        task = Task.of(case.storage, Path(folder), numbers, server=server)
        command: list[str | Path] = [python_of(contestant.requires), "-m", "benchmarks.sample"]
        command += [f"benchmarks.contestants.{contestant.module}", case.measure, task.to_json()]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True
            )
        except subprocess.TimeoutExpired:
            return Sample(case=case, contestant=contestant.name, round=number, answer=None, error="took too long")
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            reason = error.stderr.strip().rpartition("\n")[2]
            return Sample(case=case, contestant=contestant.name, round=number, answer=None, error=reason)
    answer = json.loads(done.stdout.splitlines()[-1])
    return Sample(case=case, contestant=contestant.name, round=number, answer=answer)


def _taking_part(contestants: Iterable[Contestant], case: Case) -> list[Contestant]:
    return [one for one in contestants if case.measure in one.measures and case.storage in one.storages]


def _worded(sample: Sample) -> str:
    if sample.answer is None:
        return f"failed: {sample.error}"
    return ", ".join(f"{value:,.5g} {unit}" for unit, value in sample.answer.items())
