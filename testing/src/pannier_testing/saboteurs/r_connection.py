"""Storages that break a rule of section R: clients that make the worst of a server that is down, cut off or slow."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pannier.claims import Claim, Claimed
from pannier.errors import StorageError, StorageUnavailableError
from pannier.records import JobRecord, Json, Lease
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.reference.loopback import Connection, Listener, LoopbackProvider
from pannier_testing.saboteurs.making import on_loopback

T = TypeVar("T")


# R109: the server is down.


@on_loopback("R109")
class WaitsForItsServerInOpen(LoopbackProvider):
    """Does not give up opening before the server is there."""

    async def open(self) -> None:
        """Try again and again."""
        while True:
            try:
                return await super().open()
            except StorageUnavailableError:
                await asyncio.sleep(0.1)


@on_loopback("R109")
class WaitsForItsServerInACall(LoopbackProvider):
    """Opens or fails in time, but does not give up a call before the server is there again."""

    async def call(self, verb: str, **arguments: object) -> object:
        """Try again and again."""
        while True:
            try:
                return await super().call(verb, **arguments)
            except StorageUnavailableError:
                await asyncio.sleep(0.1)


@on_loopback("R109")
class LetsADriverErrorOutOfACall(LoopbackProvider):
    """Says in the driver's words that its connection is lost, once it is open."""

    async def call(self, verb: str, **arguments: object) -> object:
        """Unwrap."""
        try:
            return await super().call(verb, **arguments)
        except StorageUnavailableError as error:
            raise error.__cause__ or error from None


@on_loopback("R109")
class TakesNobodyForNothing(LoopbackProvider):
    """Says that nothing is due where nobody answers."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Hide the outage."""
        try:
            return await super().claim_jobs(claim)
        except StorageUnavailableError:
            return Claimed(jobs=(), next_due=None)


@on_loopback("R109")
class StoresLater(LoopbackProvider):
    """Acknowledges jobs while the server is down, and sends them when it is back."""

    def __init__(self, url: StorageUrl) -> None:
        super().__init__(url)
        self._late: list[JobRecord] = []

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store what was promised, too, or promise."""
        try:
            standing = await super().store_jobs([*self._late, *jobs])
        except StorageUnavailableError:
            self._late += jobs
            return [job.tracking_id for job in jobs]
        standing, self._late = standing[len(self._late) :], []
        return standing


# R110: the connection is reset.


@on_loopback("R110")
class KeepsADeadConnection(LoopbackProvider):
    """Connects when it is opened, and never again."""

    def drop(self) -> None:
        """Keep it, until the storage is closed."""
        if self._opened_by is None:
            super().drop()


@on_loopback("R110")
class StaysDownOnceItWasDown(LoopbackProvider):
    """Breaks a circuit at the third failure, and closes it again at the next open()."""

    def __init__(self, url: StorageUrl) -> None:
        super().__init__(url)
        self._failures = 0

    async def open(self) -> None:
        """Begin anew."""
        self._failures = 0
        await super().open()

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Count failures, and stop at the third."""
        if self._failures >= 3:
            raise self.unavailable()
        try:
            return await super().in_turn(work)
        except StorageUnavailableError:
            self._failures += 1
            raise


@on_loopback("R110")
class SettlesInTwoSteps(LoopbackProvider):
    """Writes the result of a job as its progress, in a call of its own, before it settles."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Send the results first."""
        for settlement in settlements:
            if isinstance(settlement.outcome, Succeeded) and settlement.outcome.result is not None:
                await self.store_progress(settlement.lease, settlement.outcome.result)
        return await super().settle_jobs(settlements, now=now)


# R113: the server is silent, or late; and what waiting costs.


@on_loopback("R113")
class HasNoTimeout(LoopbackProvider):
    """Waits for an answer for as long as it takes, once it is connected."""

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Bound the connecting only."""
        connected = await super().in_turn(self.connected)
        assert connected is not None
        try:
            async with self._turn:
                return await self.exchange(work)
        except OSError as error:
            raise self.unavailable() from error


@on_loopback("R113")
class TakesItsOwnTime(LoopbackProvider):
    """Has a timeout of ten seconds, whatever the URL says, for calls; the URL's is for connecting."""

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Stretch it."""
        if self._connection is None:
            await super().in_turn(self.connected)
        given, self.timeout = self.timeout, 10.0
        try:
            return await super().in_turn(work)
        finally:
            self.timeout = given


@on_loopback("R113")
class QueuesUpItsTimeouts(LoopbackProvider):
    """Begins to count a call's time when its turn comes."""

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait first."""
        async with self._turn:
            try:
                async with asyncio.timeout(self.timeout):
                    return await self.exchange(work)
            except (OSError, TimeoutError) as error:
                raise self.unavailable() from error


@on_loopback("R113")
class TakesALateAnswer(LoopbackProvider):
    """Keeps a connection on which an answer is due, and takes it for that to the next question."""

    async def exchange(self, work: Callable[[], Awaitable[T]]) -> T:
        """Drop it only where it is broken."""
        try:
            return await work()
        except OSError as error:
            if not isinstance(error, TimeoutError):
                self.drop()
            raise


@on_loopback("R113")
class SaysGoodbyeAtLength(LoopbackProvider):
    """Tells the server that it leaves, and waits for the answer."""

    async def close(self) -> None:
        """Ask for something, and wait."""
        if self._connection is not None:
            with suppress(OSError, StorageError):
                await self._connection.ask({"call": "read_clock", "arguments": {}})
        await super().close()


class RestlessListener(Listener):
    """Connects again without a pause."""

    async def pause(self) -> None:
        """Do not wait."""
        await asyncio.sleep(0)


@on_loopback("R113")
class ListensRestlessly(LoopbackProvider):
    """Tries without a pause to listen again while its server is down."""

    def listener(self, queue_ids: frozenset[str]) -> Listener:
        """Return such a listener."""
        return RestlessListener(self.url, queue_ids, self.missed(queue_ids))


@on_loopback("R113")
class KnocksRestlessly(LoopbackProvider):
    """Tries without a pause to connect, for as long as a call may take."""

    async def connected(self) -> Connection:
        """Try again and again."""
        while True:
            try:
                return await super().connected()
            except OSError:
                await asyncio.sleep(0)


@on_loopback("R113")
class SpinsForAnAnswer(LoopbackProvider):
    """Looks again and again whether the answer is there."""

    async def ask(self, question: Json) -> Json:
        """Poll."""
        answer = asyncio.ensure_future(super().ask(question))
        try:
            until = time.monotonic() + 2 * self.timeout
            while not answer.done() and time.monotonic() < until:  # noqa: ASYNC110  # as it should not be
                await asyncio.sleep(0)
            return await answer
        finally:
            answer.cancel()


class LazyListener(Listener):
    """Connects again once."""

    async def reconnect(self) -> None:
        """Try once."""
        self.drop()
        await self.connect()


@on_loopback("R113")
class ListensAgainOnce(LoopbackProvider):
    """Gives up listening if the server is not back at once."""

    def listener(self, queue_ids: frozenset[str]) -> Listener:
        """Return such a listener."""
        return LazyListener(self.url, queue_ids, self.missed(queue_ids))


class DeafListener(Listener):
    """Connects again, and forgets to say what it wants to hear."""

    async def reconnect(self) -> None:
        """Greet without the queues, once the server is back."""
        self._queue_ids = []
        await super().reconnect()


@on_loopback("R113")
class ForgetsItsSubscription(LoopbackProvider):
    """Does not subscribe again on a new connection, though it says MISSED."""

    def listener(self, queue_ids: frozenset[str]) -> Listener:
        """Return such a listener."""
        return DeafListener(self.url, queue_ids, self.missed(queue_ids))
