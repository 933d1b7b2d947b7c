"""The program of a child process: opens a storage, then answers each line of JSON that it is sent with one line."""

import asyncio
import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

from pannier.errors import PannierError
from pannier.plugins import Plugins
from pannier.records import Json
from pannier.urls import StorageUrl
from pannier_testing import wire
from pannier_testing.subject import load_plugins

if TYPE_CHECKING:
    from pannier.storage import JobStorageProvider


class Session:
    """The conversation with the parent."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._storage: JobStorageProvider | None = None

    async def answer(self, question: dict[str, Any]) -> Json:
        """Do what *question* asks."""
        match question:
            case {"hello": _}:
                return None
            case {"open": url}:
                self._storage = self._plugins.create_storage(StorageUrl(url))
                await self._storage.open()
                return None
            case {"call": verb, "arguments": arguments}:
                called = await getattr(self._storage, verb)(**wire.decode_arguments(verb, arguments))
                return wire.encode(called, wire.VERBS[verb].answer)
            case {"run": path, "arguments": arguments, "start_at": start_at}:
                module, _, name = path.partition(":")
                function = getattr(importlib.import_module(module), name)
                await asyncio.sleep(max(0.0, start_at - time.monotonic()))
                answer: Json = await function(self._storage, **arguments)
                return answer
            case _:
                raise LookupError(f"a child knows no {question!r}")

    async def answer_line(self, line: bytes) -> Json:
        """Answer one line; an error is an answer, too."""
        question: Any = wire.from_line(line)
        try:
            return {"answer": await self.answer(question)}
        except (PannierError, ValueError, TypeError, LookupError, OSError, RuntimeError) as error:
            return {"error": type(error).__name__, "message": str(error)}


async def talk(session: Session) -> None:
    """Answer until the parent closes the pipe."""
    reader = asyncio.StreamReader(limit=2**28)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        sys.stdout.buffer.write(wire.to_line(await session.answer_line(line)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(talk(Session(load_plugins(tuple(sys.argv[1:])))))
