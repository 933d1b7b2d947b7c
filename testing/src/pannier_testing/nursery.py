"""
The program that forks workers: many processes with a storage, each ready within milliseconds, to be killed at will.

A worker opens the storage and runs one async function with it, or is given its URL. The parent learns its process id
and may kill it; asked to, this program tells whether it has ended, waits for its end, and tells what it answered.
"""

import asyncio
import importlib
import os
import signal
import sys
import time
from typing import Any

from pannier.plugins import Plugins
from pannier.records import Json
from pannier.urls import StorageUrl
from pannier_testing import wire
from pannier_testing.subject import load_plugins


class Nursery:
    """The workers that were forked and not waited for yet: the pipe of each, by process id."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._pipes: dict[int, int] = {}

    def answer(self, question: dict[str, Any]) -> Json:
        """Do what *question* asks."""
        match question:
            case {"hello": _}:
                return {"answer": None}
            case {"join": pid}:
                return self._join(pid)
            case {"ended": pid}:
                return {"answer": _has_ended(pid)}
            case {"url": _}:
                return {"answer": self._fork(question)}
            case _:
                raise LookupError(f"a nursery knows no {question!r}")

    def _fork(self, question: dict[str, Any]) -> int:
        # Imports here what every fork would import anew.
        self._plugins.create_storage(StorageUrl(question["url"]))
        importlib.import_module(question["run"].partition(":")[0])
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            os._exit(self._run(question, send))
        os.close(send)
        self._pipes[child] = receive
        return child

    def _run(self, question: dict[str, Any], send: int) -> int:
        try:
            answer: Json = {"answer": asyncio.run(self._work(question))}
        except Exception as error:  # told to the parent
            answer = {"error": type(error).__name__, "message": str(error)}
        os.write(send, wire.to_line(answer))
        return 0

    async def _work(self, question: dict[str, Any]) -> Json:
        module, _, name = question["run"].partition(":")
        function = getattr(importlib.import_module(module), name)
        if not question["opened"]:
            told: Json = await function(question["url"], **question["arguments"])
            return told
        storage = self._plugins.create_storage(StorageUrl(question["url"]))
        time.sleep(max(0.0, question["start_at"] - time.monotonic()))  # noqa: ASYNC251  # nothing else runs here yet
        await storage.open()
        answer: Json = await function(storage, **question["arguments"])
        await storage.close()
        return answer

    def _join(self, pid: int) -> Json:
        with os.fdopen(self._pipes.pop(pid), "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return {"error": "Killed", "message": signal.Signals(os.WTERMSIG(status)).name}
        if not told:
            return {"error": "Ended", "message": f"with {os.waitstatus_to_exitcode(status)}, and told nothing"}
        return wire.from_line(told)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main() -> None:
    """Answer until the parent closes the pipe."""
    nursery = Nursery(load_plugins(tuple(sys.argv[1:])))
    for line in sys.stdin.buffer:
        question: Any = wire.from_line(line)
        sys.stdout.buffer.write(wire.to_line(nursery.answer(question)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
