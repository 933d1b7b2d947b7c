"""Engines that are wrong on purpose: one line of one method each, put back afterwards."""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final
from unittest.mock import patch

from attrs import frozen


@frozen
class Mutant:
    """
    One fault.

    Attributes:
        rule: What it breaks.
        fault: In words.
        place: The module, and the function or method in it.
        right: The text there.
        wrong: What stands in its place.
    """

    rule: str
    fault: str
    place: str
    right: str
    wrong: str

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the engine be wrong."""
        module_name, _, path = self.place.partition(":")
        module = import_module(f"pannier.{module_name}")
        *owners, name = path.split(".")
        owner = getattr(module, owners[0]) if owners else module
        function = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.right) == 1, f"{self.place} holds no single {self.right!r}"
        namespace: dict[str, object] = {}
        code = compile(source.replace(self.right, self.wrong), f"<{self.place}, wrong on purpose>", "exec")
        exec(code, function.__globals__, namespace)  # noqa: S102  # it is this repository's own code
        with patch.object(owner, name, namespace[name]):
            yield


MUTANTS: Final = (
    Mutant(
        "E1", "a slot too many", "worker.slots:Slots._may_start", "running >= lane.options", "running > lane.options"
    ),
    Mutant("E1", "a freed slot stays empty", "worker.slots:Slots._look_after", "elif lane.appetite():", "elif False:"),
    Mutant(
        "E1",
        "a stopped handler keeps its slot",
        "worker.slots:Slots.ended",
        "lane.running -= 1",
        "lane.running -= attempt.stop_reason is None",
    ),
    Mutant("E2", "handlers are never cancelled", "worker.attempts:Attempt.ask_to_stop", "self.task.cancel()", "pass"),
    Mutant(
        "E2",
        "a stopped handler counts as failed",
        "worker.execution:Execution._judge",
        "return Release()\n        case StopReason.TIME_LIMIT",
        "pass\n        case StopReason.TIME_LIMIT",
    ),
    Mutant(
        "E2",
        "handlers in threads are not told",
        "worker.attempts:Attempt.ask_to_stop",
        "self._stop.set(reason)",
        "pass",
    ),
    Mutant(
        "E3",
        "a thread is not waited for",
        "worker.attempts:Attempt.ask_to_stop",
        "handler.kind is HandlerKind.ASYNC",
        "True",
    ),
    Mutant("E3", "no time limit", "worker.execution:Execution.start", "if limit is not None:", "if False:"),
    Mutant(
        "E4",
        "outcomes are dropped on a fault",
        "worker.settler:Settler._settle",
        "await self._backoff.pause()",
        "return",
    ),
    Mutant(
        "E4", "a claim that failed is forgotten", "worker.waker:Waker.unanswered", "self.expect(lane, AT_ONCE)", "pass"
    ),
    Mutant("E5", "claims go on after the stop", "worker.dispatcher:Dispatcher.stop", "self._stopping.set()", "pass"),
    Mutant(
        "E5",
        "no grace at shutdown",
        "worker.worker:Worker._drain",
        "await self._slots.wait_until_idle(self.options.shutdown_grace)",
        "pass",
    ),
    Mutant(
        "E5",
        "what the last claim brings is started",
        "worker.slots:Slots._place",
        "if self._is_closed or self._is_too_late",
        "if self._is_too_late",
    ),
    Mutant(
        "E6",
        "no handler is stopped before its lease ends",
        "worker.keeper:Keeper._watch",
        "if endangered - self._endangered:",
        "if False:",
    ),
    Mutant(
        "E6",
        "the process never ends itself",
        "worker.keeper:Keeper._watch",
        "if overrun - self._overrun:",
        "if False:",
    ),
    Mutant(
        "E6",
        "jobs start under leases that have ended",
        "worker.slots:Slots._is_too_late",
        "attempt.ends_at <= now + self._least_left",
        "False",
    ),
    Mutant(
        "E7",
        "the next due time is not believed",
        "worker.waker:Waker.answered",
        "probe if next_due is None else min(next_due, probe)",
        "probe",
    ),
    Mutant("E7", "hints wake nobody", "worker.waker:Waker.wake", "if lane is not None:", "if False:"),
    Mutant(
        "E8", "SystemExit gets through", "worker.execution:Execution._run", "except BaseException", "except Exception"
    ),
    Mutant("E9", "middleware inside out", "invocation:wrap", "reversed(middleware)", "middleware"),
    Mutant(
        "E10",
        "all queues are claimed from",
        "worker.worker:Worker._make_lanes",
        "if not wanted.isdisjoint(registration.queue_ids)",
        "if True",
    ),
    Mutant(
        "E12",
        "results are not checked",
        "worker.execution:Execution._outcome",
        "course.encode(result, course.result)",
        "course.encode(result, type(result))",
    ),
    Mutant(
        "E13",
        "a job is started beside itself",
        "worker.slots:Slots._take_in_again",
        "if still_running is None:",
        "if True:",
    ),
    Mutant("E14", "nobody is condemned", "worker.slots:Slots._place", "elif lapses > LAST_CHANCE:", "elif False:"),
    Mutant(
        "E14", "the last chance is not alone", "worker.slots:Slots._place", "elif lapses == LAST_CHANCE:", "elif False:"
    ),
    Mutant(
        "E14",
        "a job whose worker died is held ahead",
        "worker.slots:Slots._place",
        "elif not lapses:",
        "elif lapses < LAST_CHANCE:",
    ),
    Mutant(
        "E14",
        "a last chance starts beside what waits",
        "worker.slots:Slots._place_last_chance",
        "or len(self._attempts) > 1",
        "",
    ),
    Mutant("E14", "a death counts as a try", "worker.execution:judge", "job.attempt - job.lapses", "job.attempt"),
    Mutant(
        "E14",
        "a try is counted twice",
        "worker.execution:judge",
        "job.attempt - job.lapses",
        "2 * job.attempt - job.lapses",
    ),
    Mutant("E15", "the wall clock decides", "clock:StorageClock.now", "if self._anchor is None:", "if True:"),
    Mutant(
        "E16",
        "a result that can't be stored is tried for ever",
        "worker.settler:Settler._settle",
        "isinstance(error, UnstorableError) and self._settle_otherwise(batch, error)",
        "False",
    ),
    Mutant(
        "R113",
        "a storage that is down is asked without a pause",
        "backoff:Backoff.next_seconds",
        "return seconds",
        "return 0.0",
    ),
)
