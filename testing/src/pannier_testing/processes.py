"""
Real processes, driven over their standard streams by lines of JSON.

`Child` is a process with an opened storage: call its verbs, run a function of a rule's module there, stop it, kill it.
`Stepper` runs single calls in forks of a warm process, each killed at its n-th executed line of the provider (R87).
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from pannier.records import Json
from pannier_testing import wire
from pannier_testing.checks import BlockedError

PATIENCE = 60.0
"""Seconds that a child may take for one answer."""


class ChildDiedError(Exception):
    """A child ended before it answered."""


@frozen
class ChildRaisedError(Exception):
    """A call in a child raised: the name of the error's type, and its message."""

    kind: str
    message: str


class Talk:
    """A process that answers each line that it is sent with one line."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def begin(
        cls, module: str, adapters: tuple[str, ...], tmp: Path, *, environment: Mapping[str, str] | None = None
    ) -> "Talk":
        """
        Start `python -m module`, which imports *adapters*; its standard error goes to a file in *tmp*.

        The variables of *environment* are added to this process's own.
        """
        log = tmp / f"child-{time.monotonic_ns()}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-X",
                "faulthandler",
                "-m",
                module,
                *adapters,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | (environment or {}),
                limit=2**28,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, question: Json, *, patience: float = PATIENCE) -> Json:
        """
        Send *question* and return the answer.

        Raises:
            ChildRaisedError: The call raised over there.
            ChildDiedError: The process ended first.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(wire.to_line(question))
            await self._process.stdin.drain()
            line = await asyncio.wait_for(self._process.stdout.readline(), patience)
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        if not line:
            code = await self._process.wait()
            raise ChildDiedError(f"the child ended with {code}; {self._log.read_text(errors='replace')[-2000:]}")
        answer: Any = wire.from_line(line)
        if "error" in answer:
            raise ChildRaisedError(answer["error"], answer["message"])
        result: Json = answer["answer"]
        return result

    async def stop(self) -> None:
        """End the process by SIGKILL, however it is. Twice is fine."""
        if self._process.returncode is None:
            # Process.kill() would look first whether it has ended, and so take its status away from the event loop.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            await self._process.wait()
        transport = getattr(self._process, "_transport", None)  # else its pipes are closed by the garbage collector
        if transport is not None:
            transport.close()


class Child:
    """A process that has opened the storage. Made by `Trial.open_child`."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    @classmethod
    async def start(
        cls, adapters: tuple[str, ...], tmp: Path, *, environment: Mapping[str, str] | None = None
    ) -> "Child":
        """Start one, with the variables of *environment*, and wait until it has imported everything."""
        child = cls(await Talk.begin("pannier_testing.child", adapters, tmp, environment=environment))
        await child._talk.ask({"hello": None})
        return child

    @property
    def pid(self) -> int:
        """The process id, for signals of other kinds."""
        return self._talk.pid

    async def open(self, url: str) -> None:
        """Open the storage there."""
        await self._talk.ask({"open": url})

    async def call(self, verb: str, **arguments: object) -> Any:  # the verb decides the type
        """Call a verb of the storage with plain values and return its answer."""
        answer = await self._talk.ask({"call": verb, "arguments": wire.encode_arguments(verb, arguments)})
        return wire.decode(answer, wire.VERBS[verb].answer)

    async def run(
        self, function: Callable[..., object], *, start_at: float = 0.0, patience: float = PATIENCE, **arguments: Json
    ) -> Any:
        """
        Run *function(storage, **arguments)*, an async function at module level, there, and return its JSON answer.

        Args:
            function: Found there by its module and name.
            start_at: On `time.monotonic()`, which all processes share: a barrier for several children.
            patience: Seconds that it may take.
            arguments: Plain JSON.
        """
        path = f"{function.__module__}:{function.__name__}"
        asked: Json = {"run": path, "arguments": arguments, "start_at": start_at}
        return await self._talk.ask(asked, patience=patience)

    async def kill(self) -> None:
        """SIGKILL it, and wait until it is gone."""
        await self._talk.stop()

    def freeze(self) -> None:
        """SIGSTOP it."""
        if not hasattr(signal, "SIGSTOP"):
            raise BlockedError("this system can't stop a process and continue it")
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT it."""
        os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> None:
        """End it, however it is."""
        await self._talk.stop()


@frozen
class Stepped:
    """What became of a fork: how many lines of the provider the call took; None where it was killed before."""

    lines: int | None


class Stepper:
    """Runs calls in forks that are killed at a given line. Made by `Trial.open_stepper`."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    @classmethod
    async def start(cls, adapters: tuple[str, ...], tmp: Path) -> "Stepper":
        """Start the process that forks."""
        if not hasattr(os, "fork"):
            raise BlockedError("this system has no fork(), which the line-step sweep needs")
        stepper = cls(await Talk.begin("pannier_testing.stepper", adapters, tmp))
        await stepper._talk.ask({"hello": None})
        return stepper

    async def call(self, url: str, verb: str, *, die_at: int | str | None = None, **arguments: object) -> Stepped:
        """
        Open *url* in a fork and call *verb* there.

        Args:
            url: The storage.
            verb: A verb, or "open".
            die_at: Where the fork kills itself: at a line, counted from 0, "before" the call, or "after" its answer.
            arguments: The verb's.
        """
        encoded = {} if verb == "open" else wire.encode_arguments(verb, arguments)
        question: Json = {"url": url, "call": verb, "arguments": encoded, "die_at": die_at}
        answer: Any = await self._talk.ask(question)
        return Stepped(answer["lines"])

    async def stop(self) -> None:
        """End it."""
        await self._talk.stop()


class Nursery:
    """Forks workers from a warm process. Made by `Trial.open_nursery`."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._alive: set[int] = set()

    @classmethod
    async def start(cls, adapters: tuple[str, ...], tmp: Path) -> "Nursery":
        """Start the process that forks."""
        if not hasattr(os, "fork"):
            raise BlockedError("this system has no fork(), which makes worker processes")
        nursery = cls(await Talk.begin("pannier_testing.nursery", adapters, tmp))
        await nursery._talk.ask({"hello": None})
        return nursery

    async def fork(self, url: str, function: Callable[..., object], *, start_at: float = 0.0, **arguments: Json) -> int:
        """
        Open *url* in a fork and run *function(storage, **arguments)* there; return the fork's process id.

        Args:
            url: The storage.
            function: An async function at module level, found there by its module and name.
            start_at: When to open, on `time.monotonic()`, which all processes share.
            arguments: Plain JSON.
        """
        return await self._fork({**_asked(url, function, arguments), "start_at": start_at, "opened": True})

    async def spawn(self, url: str, function: Callable[..., object], **arguments: Json) -> int:
        """Run *function(url, **arguments)* in a fork, which opens nothing before; return the fork's process id."""
        return await self._fork({**_asked(url, function, arguments), "opened": False})

    async def _fork(self, question: Json) -> int:
        pid: Any = await self._talk.ask(question)
        self._alive.add(pid)
        return int(pid)

    async def has_ended(self, pid: int) -> bool:
        """Whether a fork that nobody joined yet has ended."""
        return bool(await self._talk.ask({"ended": pid}))

    async def join(self, pid: int) -> Json:
        """
        Wait until a fork has ended, and return what its function answered.

        Raises:
            ChildRaisedError: It raised; or it was killed: then the kind is "Killed"; or it ended itself: "Ended".
        """
        self._alive.discard(pid)
        return await self._talk.ask({"join": pid})

    async def kill(self, pid: int) -> None:
        """SIGKILL a fork, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildRaisedError):
            await self.join(pid)

    async def stop(self) -> None:
        """End it and all its forks."""
        for pid in self._alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._talk.stop()


def _asked(url: str, function: Callable[..., object], arguments: Mapping[str, Json]) -> dict[str, Json]:
    return {"url": url, "run": f"{function.__module__}:{function.__name__}", "arguments": {**arguments}}


def barrier(seconds: float = 0.25) -> float:
    """Return an instant on `time.monotonic()` at which several children are to start together."""
    return time.monotonic() + seconds
