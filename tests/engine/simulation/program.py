"""The program that every process of a simulation runs: handlers that do what their commands say, well or badly."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from attrs import frozen

from pannier import Command, HandlerRegistry, JobContext, RetryPolicy
from pannier.context import CURRENT_JOB
from pannier.middleware import Next
from pannier.records import Lease
from pannier.worker.attempts import Attempt
from tests.engine.simulation.journal import End, Journal, Place, Run
from tests.engine.simulation.threads import VirtualThreads
from tests.engine.simulation.universe import Host, Killed, State, Universe

QUICK_RETRIES: Final = RetryPolicy(
    max_attempts=3, first_delay=timedelta(milliseconds=200), max_delay=timedelta(seconds=2)
)

LIMIT: Final = timedelta(seconds=1.5)
SLOTS: Final = {"Errand": 3, "Note": 4, "Sprint": 2, "Chore": 2, "Slog": 1, "Rarity": 1, "Old rarity": 1}
LIMITS: Final = {"Sprint": LIMIT.total_seconds(), "Slog": LIMIT.total_seconds()}
LAYERS: Final = ("outer", "inner")
GLANCE_SECONDS: Final = 0.1
"""How often a handler in a thread looks at its token."""


class Fashion(StrEnum):
    """How a handler ends."""

    RETURN = "return"
    RAISE = "raise"
    EXIT = "exit"
    CANCEL = "cancel"
    WRONG = "wrong"
    UNSTORABLE = "unstorable"
    KILL = "kill"


@frozen(kw_only=True)
class Script:
    """
    What a handler does.

    Attributes:
        seconds: How long it waits.
        blocks: How long it blocks its event loop or its thread after that.
        reports: How often it reports progress.
        failures: How many attempts raise before one does as `fashion` says.
        fashion: How it ends.
        deaf: How long it goes on after it was told to stop, once.
    """

    seconds: float = 0.0
    blocks: float = 0.0
    reports: int = 0
    failures: int = 0
    fashion: Fashion = Fashion.RETURN
    deaf: float = 0.0


@frozen
class Errand(Command[str]):
    """Runs on the loop."""

    script: Script


@frozen
class Note(Command[str]):
    """Runs on the loop, for a moment: such jobs are claimed ahead."""

    script: Script


@frozen
class Sprint(Command[str]):
    """Runs on the loop, with a time limit."""

    script: Script


@frozen
class Chore(Command[str]):
    """Runs in a thread."""

    script: Script


@frozen
class Slog(Command[str]):
    """Runs in a thread, with a time limit."""

    script: Script


@frozen
class Rarity(Command[str]):
    """Runs on the loop, one at a time; has an alias."""

    script: Script


@runtime_checkable
class Stage(Host, Protocol):
    """A process with an actor."""

    actor: "Actor"


COMMANDS: Final = {kind.__qualname__: kind for kind in (Errand, Note, Sprint, Chore, Slog, Rarity)}


class Actor:
    """Does what scripts say, in one process."""

    def __init__(self, universe: Universe, journal: Journal, place: Place, kill: Callable[[], None]) -> None:
        self._universe = universe
        self._journal = journal
        self._place = place
        self._kill = kill
        self.layers: list[str] = []

    async def play(self, queue: str, script: Script, job: JobContext[str]) -> str:
        """Do as *script* says, on the loop."""
        if job.worker_id is None:
            return "at once"
        if self._place.state is State.DEAD:  # while it was blocked; what comes after that happens nowhere
            raise Killed
        run = self._journal.begin(self._place, queue, _current_lease(), is_stubborn=bool(script.deaf or script.blocks))
        try:
            await self._wait(run, script, job)
            if script.blocks:
                self._universe.block(script.blocks)
        except BaseException as error:
            self._leave(run, job, error)
            raise
        return self._finish(run, script, job)

    async def _wait(self, run: Run, script: Script, job: JobContext[str]) -> None:
        try:
            for step in range(script.reports):
                await asyncio.sleep(script.seconds / (script.reports + 1))
                await job.report(current_step=step, total_steps=script.reports)
            await asyncio.sleep(script.seconds / (script.reports + 1))
        except asyncio.CancelledError:
            self._journal.told(run, job.stop.reason)
            if not script.deaf:
                raise
            await asyncio.sleep(script.deaf)

    def play_in_thread(self, queue: str, script: Script, job: JobContext[str]) -> str:
        """Do as *script* says, in a thread."""
        if job.worker_id is None:
            return "at once"
        if self._place.state is State.DEAD:  # while it was blocked; what comes after that happens nowhere
            raise Killed
        run = self._journal.begin(self._place, queue, _current_lease(), is_stubborn=bool(script.deaf or script.blocks))
        end = self._universe.now + script.seconds + script.blocks
        while self._universe.now < end and (script.deaf or not job.stop.is_set):
            self._universe.block(GLANCE_SECONDS)
        self._journal.told(run, job.stop.reason)
        if job.stop.is_set and not script.deaf:
            self._journal.ended(run, End.STOPPED)
            raise InterruptedError("told to stop")
        return self._finish(run, script, job)

    def _finish(self, run: Run, script: Script, job: JobContext[str]) -> str:
        self._journal.told(run, job.stop.reason)
        try:
            result = self._end(run, script, job)
        except BaseException as error:
            self._leave(run, job, error)
            raise
        self._journal.ended(run, End.RETURNED, result)
        return result

    def _end(self, run: Run, script: Script, job: JobContext[str]) -> str:
        if self._place.state is State.DEAD:
            return "never"
        if job.attempt - run.grant.lapses <= script.failures:
            raise ValueError(f"attempt {job.attempt} fails")
        match script.fashion:
            case Fashion.RETURN:
                return f"result of #{run.number}"
            case Fashion.RAISE:
                raise ValueError("it always fails")
            case Fashion.EXIT:
                raise SystemExit(1)
            case Fashion.CANCEL:
                raise asyncio.CancelledError
            case Fashion.WRONG:
                wrong: object = 7
                return wrong  # type: ignore[return-value]  # what E12 is about
            case Fashion.UNSTORABLE:
                return f"unstorable, #{run.number}"
            case Fashion.KILL:
                self._kill()
                return "never"

    def _leave(self, run: Run, job: JobContext[str], error: BaseException) -> None:
        self._journal.told(run, job.stop.reason)
        is_stopped = isinstance(error, asyncio.CancelledError) and job.stop.is_set
        self._journal.ended(run, End.STOPPED if is_stopped else End.RAISED)

    async def outer(self, command: Command[object], job: JobContext[object], call_next: Next) -> object:
        """The outer layer of middleware."""
        self.layers.append("outer")
        return await call_next(command)

    async def inner(self, command: Command[object], job: JobContext[object], call_next: Next) -> object:
        """The inner layer of middleware."""
        self.layers.append("inner")
        return await call_next(command)


HANDLERS: Final = HandlerRegistry()
"""The handlers of every process in every simulation."""


def _actor(job: JobContext[str]) -> Actor:
    """Return who plays in the process that executes *job*."""
    threads = job.queues.environment.threads
    assert isinstance(threads, VirtualThreads)
    assert isinstance(threads.host, Stage)
    return threads.host.actor


@HANDLERS.handler(max_concurrency=SLOTS["Errand"], retry=QUICK_RETRIES)
async def errand(command: Errand, job: JobContext[str]) -> str:
    return await _actor(job).play("Errand", command.script, job)


@HANDLERS.handler(max_concurrency=SLOTS["Note"], retry=QUICK_RETRIES)
async def note(command: Note, job: JobContext[str]) -> str:
    return await _actor(job).play("Note", command.script, job)


@HANDLERS.handler(max_concurrency=SLOTS["Sprint"], retry=QUICK_RETRIES, time_limit=LIMIT)
async def sprint(command: Sprint, job: JobContext[str]) -> str:
    return await _actor(job).play("Sprint", command.script, job)


@HANDLERS.handler(max_concurrency=SLOTS["Chore"], retry=QUICK_RETRIES)
def chore(command: Chore, job: JobContext[str]) -> str:
    return _actor(job).play_in_thread("Chore", command.script, job)


@HANDLERS.handler(max_concurrency=SLOTS["Slog"], retry=QUICK_RETRIES, time_limit=LIMIT)
def slog(command: Slog, job: JobContext[str]) -> str:
    return _actor(job).play_in_thread("Slog", command.script, job)


@HANDLERS.handler(max_concurrency=SLOTS["Rarity"], retry=QUICK_RETRIES, aliases=["Old rarity"])
async def rarity(command: Rarity, job: JobContext[str]) -> str:
    return await _actor(job).play("Rarity", command.script, job)


def _current_lease() -> Lease:
    """Return the lease under which the calling handler runs, which its context does not show."""
    attempt = CURRENT_JOB.get()
    assert isinstance(attempt, Attempt)
    return attempt.lease
