"""The processes of a run, each at a seat: started, killed, replaced, frozen, and what they have achieved so far."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final, NoReturn
from uuid import UUID

from attrs import define, field

from pannier.records import Json
from pannier_testing.processes import ChildRaisedError, Nursery
from pannier_testing.torture import roles
from pannier_testing.torture.ground import Board, Journal, Tail, parse
from pannier_testing.torture.plan import Plan

QUEUE_SEAT: Final = 0
LOOK: Final = 0.005
ROLL_CALL: Final = 0.5
"""Seconds between two looks at the journal, and at whether everybody is alive."""

STOP_SECONDS: Final = 30.0
"""How long a process may take to end after SIGTERM."""


class StalledError(Exception):
    """Nothing has moved for too long."""


@define
class Achieved:
    """
    What the journal says so far.

    Attributes:
        acknowledged: The jobs whose storing was acknowledged.
        succeeded: How many settlements as Succeeded were accepted.
        waiting: What was to be stored and is not acknowledged: for each call kind, number and key of its jobs.
    """

    acknowledged: set[UUID] = field(factory=set[UUID])
    succeeded: int = 0
    waiting: dict[tuple[int, int], list[list[Json]]] = field(factory=dict[tuple[int, int], list[list[Json]]])

    def hear(self, line: bytes) -> None:
        """Take one line in."""
        if not line.startswith((b'{"what":"store', b'{"what":"settled"')):
            return
        match parse(line):
            case {"what": "store", "pid": pid, "call": call, "jobs": jobs}:
                self.waiting[pid, call] = [[kind, data["number"], key] for _, key, _, kind, data in jobs if key]
            case {"what": "stored", "pid": pid, "call": call, "ids": ids}:
                self.waiting.pop((pid, call), None)
                self.acknowledged.update(map(UUID, ids))
            case {"what": "settled", "leases": leases}:
                self.succeeded += sum(outcome == "Succeeded" for _, _, outcome in leases)
            case _:
                pass


class Crew:
    """
    The processes.

    Attributes:
        plan: What the run is to do.
        folder: Where journal and board are.
        journal: The rig's own pen.
        board: What the processes read.
        achieved: What they have achieved, as of the last look.
    """

    def __init__(
        self, plan: Plan, urls: list[str], folder: Path, *, nursery: Nursery, rng: Random, adapters: tuple[str, ...]
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.journal = Journal(folder)
        self.board = Board(folder)
        self.achieved = Achieved()
        self._urls = urls
        self._nursery = nursery
        self._rng = rng
        self._adapters = [*adapters]
        self._tail = Tail(folder)
        self._pids: dict[int, int] = {}
        self._called_at = 0.0

    @property
    def workers(self) -> list[int]:
        """The seats of the workers."""
        return [seat for seat in self._pids if seat != QUEUE_SEAT]

    @property
    def seats(self) -> list[int]:
        """All seats."""
        return list(self._pids)

    def pid(self, seat: int) -> int:
        """Who sits there now."""
        return self._pids[seat]

    async def start(self) -> None:
        """Start everybody."""
        for seat in range(self.plan.workers + 1):
            await self._seat(seat)

    async def kill(self, seat: int) -> None:
        """SIGKILL who sits there, and let another take his place."""
        pid = self._pids[seat]
        self.journal.note("fault", kind="kill", pids=[pid])
        await self._nursery.kill(pid)
        self.journal.note("dead", id=pid)
        await self._seat(seat)

    def freeze(self, seat: int) -> None:
        """SIGSTOP who sits there."""
        os.kill(self._pids[seat], signal.SIGSTOP)

    def thaw(self, seat: int) -> None:
        """SIGCONT who sits there."""
        os.kill(self._pids[seat], signal.SIGCONT)

    async def until_succeeded(self, count: int) -> None:
        """
        Wait until so many jobs have succeeded.

        Raises:
            StalledError: Nothing has moved for too long.
        """
        await self._until(lambda: self.achieved.succeeded >= count, f"{count} jobs succeeded")

    async def until_queued(self, count: int) -> None:
        """
        Wait until the storing of so many jobs is acknowledged.

        Raises:
            StalledError: Nothing has moved for too long.
        """
        await self._until(lambda: len(self.achieved.acknowledged) >= count, f"{count} jobs are queued")

    async def look(self) -> None:
        """Read what is new in the journal; now and then replace those that have ended by themselves."""
        for line in self._tail.lines():
            self.achieved.hear(line)
        if time.monotonic() - self._called_at > ROLL_CALL:
            self._called_at = time.monotonic()
            for seat, pid in list(self._pids.items()):
                if await self._nursery.has_ended(pid):
                    await self._bury(pid)
                    await self._seat(seat)

    def stall(self, waited_for: str) -> NoReturn:
        """
        Note that there is no use in waiting any longer.

        Raises:
            StalledError: Always.
        """
        self.journal.note("stalled", waited_for=waited_for)
        raise StalledError(waited_for)

    async def dismiss(self) -> None:
        """End everybody in good order."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for pid in self._pids.values():
            deadline = time.monotonic() + STOP_SECONDS
            while not await self._nursery.has_ended(pid):
                if time.monotonic() > deadline:
                    self.journal.note("stalled", waited_for=f"the end of process {pid} after SIGTERM")
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(LOOK)
            await self._bury(pid)
        self._pids.clear()
        self._tail.close()

    async def _seat(self, seat: int) -> None:
        url, folder = self._urls[seat], str(self.folder)
        if seat == QUEUE_SEAT:
            await self._hear_all()
            self._pids[seat] = await self._nursery.spawn(
                url,
                roles.queue,
                folder=folder,
                seat=seat,
                adapters=[*self._adapters],
                seed=self._rng.getrandbits(32),
                done=len(self.achieved.acknowledged),
                again=[job for jobs in self.achieved.waiting.values() for job in jobs],
            )
            self.achieved.waiting.clear()
        else:
            self._pids[seat] = await self._nursery.spawn(
                url,
                roles.work,
                folder=folder,
                seat=seat,
                adapters=[*self._adapters],
                lease=self.plan.lease_seconds,
                prelude=self.plan.prelude,
            )

    async def _hear_all(self) -> None:
        for line in self._tail.lines():
            self.achieved.hear(line)

    async def _bury(self, pid: int) -> None:
        """Wait for the end of a process, and note what it died of."""
        try:
            await self._nursery.join(pid)
        except ChildRaisedError as error:
            self.journal.note("died", id=pid, kind=error.kind, message=error.message)
        self.journal.note("dead", id=pid)

    async def _until(self, is_reached: Callable[[], bool], words: str) -> None:
        moved_at, seen = time.monotonic(), -1
        while True:
            await self.look()
            if is_reached():
                return
            now = self.achieved.succeeded + len(self.achieved.acknowledged)
            if now != seen:
                moved_at, seen = time.monotonic(), now
            if time.monotonic() - moved_at > self.plan.patience_seconds:
                self.stall(words)
            await asyncio.sleep(LOOK)
