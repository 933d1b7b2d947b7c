"""What is done to the processes of a run and to their storage. Each fault is noted when it begins and ends."""

import asyncio
import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final, assert_never

from pannier_testing.proxy import FaultProxy
from pannier_testing.torture.crew import QUEUE_SEAT, Crew
from pannier_testing.torture.immutable import immutable
from pannier_testing.torture.plan import FaultKind, Server

SKEW_SECONDS: Final = 30.0
STEP_SECONDS: Final = 3600.0
"""By how much clocks are off all the time, and by how much they are stepped (E15)."""

ROOM_ON_DISK: Final = 64 * 1024
ROOM_IN_MEMORY: Final = 512 * 1024
"""How many bytes are left when a disk or a memory is "full"."""

DOWN: Final = frozenset({"refuse", "silent"})
"""Disturbances of the network in which the storage does not answer at all."""


class Mischief:
    """Does harm by chance."""

    def __init__(
        self, crew: Crew, rng: Random, *, store: Path, proxies: list[FaultProxy], server: Server | None
    ) -> None:
        self._crew = crew
        self._rng = rng
        self._store = store
        self._proxies = proxies
        self._server = server

    def skew_clocks(self) -> None:
        """Let every other wall clock be wrong from the beginning."""
        for seat in self._crew.seats:
            self._crew.board.set_clock(seat, off_by=self._skew(seat))

    async def do(self, kind: FaultKind) -> None:
        """Do one fault, and return when it is over."""
        match kind:
            case FaultKind.KILL:
                await self._kill()
            case FaultKind.FREEZE:
                await self._freeze()
            case FaultKind.CLOCK:
                await self._step_a_clock()
            case FaultKind.NETWORK:
                await self._disturb_the_network()
            case FaultKind.SERVER:
                await self._crash_the_server()
            case FaultKind.DISK:
                await self._fill_the_disk()
            case FaultKind.MEMORY:
                await self._take_the_memory()
            case FaultKind.READ_ONLY:
                await self._forbid_writing()
            case _:
                assert_never(kind)

    async def _kill(self) -> None:
        await asyncio.sleep(self._rng.random() * self._rng.choice((0, 0.003, 0.01, 0.03)))
        is_rare = self._rng.random() < 0.15
        await self._crew.kill(QUEUE_SEAT if is_rare else self._rng.choice(self._crew.workers))

    async def _freeze(self) -> None:
        chosen = self._rng.sample(self._crew.workers, len(self._crew.workers) - 1)
        with self._noted(FaultKind.FREEZE, self._crew.seats, frozen=chosen):
            for seat in chosen:
                self._crew.freeze(seat)
            try:
                await self.look_on(self._crew.plan.lease_seconds + 0.2 + self._rng.random())
            finally:
                for seat in chosen:
                    self._crew.thaw(seat)

    async def _step_a_clock(self) -> None:
        seat = self._rng.choice(self._crew.seats)
        with self._noted(FaultKind.CLOCK, []):
            step = self._rng.choice((-STEP_SECONDS, 0.0, STEP_SECONDS))
            self._crew.board.set_clock(seat, off_by=self._skew(seat) + step)

    async def _disturb_the_network(self) -> None:
        chosen = [seat for seat in self._crew.seats if self._rng.random() < 0.6] or [self._rng.choice(self._crew.seats)]
        proxies = [self._proxies[seat] for seat in chosen]
        how = self._rng.choice(("cut", "refuse", "silent", "slow", "cut sending", "cut receiving"))
        with self._noted(FaultKind.NETWORK, chosen, how=how):
            for proxy in proxies:
                await asyncio.to_thread(self._disturb, proxy, how)
            with self._timed(chosen if how in DOWN else []):
                await self.look_on(self._outage())
            for proxy in proxies:
                await asyncio.to_thread(proxy.heal)

    def _disturb(self, proxy: FaultProxy, how: str) -> None:
        match how:
            case "cut":
                proxy.cut()
            case "refuse":
                proxy.set(refuse=True)
                proxy.cut()
            case "silent":
                proxy.set(is_silent=True)
            case "slow":
                proxy.set(latency=self._rng.choice((0.01, 0.1, 0.5)))
            case "cut sending":
                proxy.set(reset_after_sent=self._rng.randrange(2000))
            case _:
                proxy.set(reset_after_received=self._rng.choice((0, self._rng.randrange(2000))))

    async def _crash_the_server(self) -> None:
        assert self._server is not None
        with self._noted(FaultKind.SERVER, self._crew.seats):
            await asyncio.to_thread(self._server.crash)
            with self._timed(self._crew.seats):
                await self.look_on(self._rng.random() * 0.5)
                await asyncio.to_thread(self._server.start)

    async def _fill_the_disk(self) -> None:
        with self._noted(FaultKind.DISK, self._crew.seats):
            files = [path for path in self._store.rglob("*") if path.is_file()]
            size = max((path.stat().st_size for path in files), default=0) + self._rng.randrange(ROOM_ON_DISK)
            with self._limited(self._crew.seats, resource.RLIMIT_FSIZE, size):
                await self.look_on(self._outage())

    async def _take_the_memory(self) -> None:
        seat = self._rng.choice(self._crew.seats)
        with self._noted(FaultKind.MEMORY, [seat]):
            size = _address_space(self._crew.pid(seat)) + self._rng.randrange(ROOM_IN_MEMORY)
            with self._limited([seat], resource.RLIMIT_AS, size):
                await self.look_on(self._outage())

    async def _forbid_writing(self) -> None:
        with self._noted(FaultKind.READ_ONLY, self._crew.seats):
            shared = {path for seat in self._crew.seats for path in _shared_memory(self._crew.pid(seat))}
            files = [path for path in self._store.iterdir() if path.is_file() and str(path) not in shared]
            with immutable(files):
                await self.look_on(self._outage())

    async def look_on(self, seconds: float) -> None:
        """Let so much time go by; who dies meanwhile is replaced."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, 0.05))
            await self._crew.look()

    def _outage(self) -> float:
        """Return how long something lasts: mostly less than leases bear, now and then more."""
        lease = self._crew.plan.lease_seconds
        return lease * (self._rng.uniform(1.1, 1.4) if self._rng.random() < 0.1 else self._rng.uniform(0.05, 0.4))

    def _skew(self, seat: int) -> float:
        return (0.0, SKEW_SECONDS, -SKEW_SECONDS)[seat % 3]

    @contextmanager
    def _noted(
        self, kind: FaultKind, seats: Sequence[int], *, frozen: Sequence[int] = (), how: str = ""
    ) -> Iterator[None]:
        touched = [self._crew.pid(seat) for seat in seats]
        stopped = [self._crew.pid(seat) for seat in frozen]
        self._crew.journal.note("fault", kind=kind.value, pids=[*touched], frozen=[*stopped], how=how)
        try:
            yield
        finally:
            self._crew.journal.note("healed", kind=kind.value)

    @contextmanager
    def _timed(self, seats: Sequence[int]) -> Iterator[None]:
        """Note how long those at *seats* did without the storage, and what that took them of the processor."""
        before = {pid: _processor_seconds(pid) for pid in map(self._crew.pid, seats)}
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        for seat in seats:
            pid = self._crew.pid(seat)
            with suppress(FileNotFoundError, KeyError):  # it has left meanwhile, or another sits there
                self._crew.journal.note("down", seconds=seconds, busy=_processor_seconds(pid) - before[pid])

    @contextmanager
    def _limited(self, seats: Sequence[int], what: int, size: int) -> Iterator[None]:
        """Let the processes have no more than *size* of a resource; the hard limit stays, so that it can be undone."""
        pids = [self._crew.pid(seat) for seat in seats]
        _, hard = resource.getrlimit(what)
        for pid in pids:
            _set_limit(pid, what, (size, hard))
        try:
            yield
        finally:
            for pid in pids:
                _set_limit(pid, what, resource.getrlimit(what))


def _set_limit(pid: int, what: int, limits: tuple[int, int]) -> None:
    with suppress(ProcessLookupError):  # it died of it
        resource.prlimit(pid, what, limits)


def _address_space(pid: int) -> int:
    """Return how many bytes of addresses a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _processor_seconds(pid: int) -> float:
    """Return how long a process, all of its threads, has kept a processor busy (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _shared_memory(pid: int) -> Iterator[str]:
    """Give the files that a process has mapped to write into: memory that is shared, and no disk's affair."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        _, permissions, *_, path = line.split(maxsplit=5)
        if permissions.startswith("rw") and permissions.endswith("s"):
            yield path
