"""
The program of the crash tests: forks for every question, runs one call there, and dies where it is told to.

That is at a given line, before the call, or right after its answer. A line is one executed line of the provider's own
folder, on any thread. Forking a process that has imported everything makes a point cost milliseconds; nothing is opened
and no thread runs before the fork.
"""

import asyncio
import inspect
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pannier.plugins import Plugins
from pannier.records import Json
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing import wire
from pannier_testing.subject import load_plugins

BEFORE: Final = "before"
AFTER: Final = "after"
"""Where to die, other than at a line: when all is open but the call is not made yet, and right after its answer."""


class LineCounter:
    """
    Counts the executed lines below some folders, and kills the process at one of them.

    Attributes:
        count: Lines since it was armed.
    """

    def __init__(self, folders: frozenset[str], die_at: int | str | None) -> None:
        self._folders = folders
        self._die_at = die_at
        self._is_mine: dict[str, bool] = {}
        self._is_armed = False
        self.count = 0

    def install(self) -> None:
        """Watch this thread and all that are started later."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def arm(self) -> None:
        """Begin to count."""
        self._is_armed = True

    def disarm(self) -> None:
        """Stop counting."""
        self._is_armed = False

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:  # what sys.settrace wants
        name = frame.f_code.co_filename
        if name not in self._is_mine:
            self._is_mine[name] = not self._folders.isdisjoint(map(str, Path(name).parents))
        return self._line if self._is_mine[name] else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and self._is_armed:
            if self.count == self._die_at:
                _die()
            self.count += 1
        return self._line


def folders_of(storage: JobStorageProvider) -> frozenset[str]:
    """Return the folders of the code that makes up *storage*: those of its classes' modules."""
    classes = [kind for kind in type(storage).__mro__ if kind.__module__ not in {"builtins", "typing", "abc"}]
    return frozenset(str(Path(inspect.getfile(kind)).resolve().parent) for kind in classes)


async def step(storage: JobStorageProvider, counter: LineCounter, question: dict[str, Any]) -> None:
    """Open, call, close; only the call is counted, or the opening where that is what is called."""
    verb, die_at = question["call"], question["die_at"]
    if verb == "open":
        counter.arm()
    await storage.open()
    if verb != "open":
        arguments = wire.decode_arguments(verb, question["arguments"])
        if die_at == BEFORE:
            _die()
        counter.arm()
        await getattr(storage, verb)(**arguments)
    counter.disarm()
    if die_at == AFTER:
        _die()
    await storage.close()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def answer_in_fork(plugins: Plugins, question: dict[str, Any]) -> Json:
    """Run the question's call in a fork; return how many lines it took, or None where the fork was killed."""
    plugins.create_storage(StorageUrl(question["url"]))  # imports here what every fork would import anew
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        os._exit(_run_forked(plugins, question, send))
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return {"answer": {"lines": None}}
    answer: Json = wire.from_line(told)
    return answer


def _run_forked(plugins: Plugins, question: dict[str, Any], send: int) -> int:
    storage = plugins.create_storage(StorageUrl(question["url"]))
    counter = LineCounter(folders_of(storage), question["die_at"])
    counter.install()
    try:
        asyncio.run(step(storage, counter, question))
        answer: Json = {"answer": {"lines": counter.count}}
    except Exception as error:  # told to the parent
        answer = {"error": type(error).__name__, "message": traceback.format_exc()[-1500:]}
    os.write(send, wire.to_line(answer))
    return 0


def main() -> None:
    """Answer until the parent closes the pipe."""
    plugins = load_plugins(tuple(sys.argv[1:]))
    for line in sys.stdin.buffer:
        question: Any = wire.from_line(line)
        answer: Json = {"answer": None} if "hello" in question else answer_in_fork(plugins, question)
        sys.stdout.buffer.write(wire.to_line(answer))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
