"""Outages, for tests of what a storage makes of them: it is asked through a proxy that stands before its server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar

from pannier.errors import StorageError, StorageUnavailableError
from pannier.storage import JobStorageProvider
from pannier_testing.checks import BlockedError
from pannier_testing.proxy import GOES_PAST, FaultProxy
from pannier_testing.scenes import scene_of
from pannier_testing.subject import with_timeout
from pannier_testing.trial import Trial

T = TypeVar("T")

TIMEOUT: Final = timedelta(seconds=1)
"""What a storage is told to wait for where it waits in vain."""

IN_TIME: Final = TIMEOUT + timedelta(seconds=3)
"""When such a call must have ended: the machine may be busy."""

PATIENCE: Final = 10.0
"""Seconds after which a storage counts as broken though its server is there."""

DOWN: Final[Mapping[str, Mapping[str, object]]] = {
    "hangs up on everybody": {"refuse": True},
    "says nothing": {"is_silent": True},
}
"""What a server may do that is down, and how the proxy does it."""


def bring_down(proxy: FaultProxy, faults: Mapping[str, object]) -> None:
    """Do to new connections what *faults* say, and the same to those that are open."""
    proxy.set(**faults)
    if "refuse" in faults:
        proxy.cut()


@asynccontextmanager
async def proxied(
    trial: Trial, timeout: timedelta | None = None
) -> AsyncIterator[tuple[FaultProxy, JobStorageProvider]]:
    """
    Lend a proxy before the server, and an opened instance that goes through it, with another *timeout* if need be.

    Raises:
        BlockedError: The instance goes past the proxy.
    """
    url = trial.url if timeout is None else url_with_timeout(trial, timeout)
    with FaultProxy(url, trial.place.tmp) as proxy:
        storage = trial.create(proxy.url)
        await mended(trial, storage.open, "open()")
        proxy.heal()
        await mended(trial, lambda: storage.get_job(trial.tracking_id()), "a call")
        if not proxy.sent:
            raise BlockedError(GOES_PAST)
        yield proxy, storage


def url_with_timeout(trial: Trial, timeout: timedelta) -> str:
    """Return the storage's URL with another timeout, which it must be able to declare: nobody waits for ever."""
    options = trial.subject.adapter(trial.url).options
    trial.check.true(
        "timeout" in options,
        "a storage whose URL names a server has the option timeout: how many seconds a call may take",
        expected='"timeout" among the options of its StorageAdapter',
        seen=", ".join(options) or "no options",
    )
    return with_timeout(trial.url, timeout)


async def must_be_unavailable(trial: Trial, call: Awaitable[object], which: str) -> None:
    """See that *call* says in time that the server is not there, and that trying again is of use."""
    promise = f"{which} raises StorageUnavailableError within the timeout of {TIMEOUT.total_seconds():g} s"
    error = await trial.check.raises(StorageUnavailableError, call, promise, within=IN_TIME)
    trial.check.true(error.retryable, f"{which} can be tried again", expected="a retryable error", seen=repr(error))


async def mended(trial: Trial, call: Callable[[], Awaitable[T]], which: str) -> T:
    """Repeat *call* until it is answered, which must be soon, since the server is there again; return the answer."""
    promise = f"{which}: the server is there again, and the same instance works again"
    until = time.monotonic() + PATIENCE
    tries = 0
    while True:
        tries += 1
        try:
            async with asyncio.timeout(PATIENCE):
                return await call()
        except StorageError as error:
            if not error.retryable or time.monotonic() > until:
                trial.check.fails(promise, expected="an answer", seen=f"at try {tries} {type(error).__name__}: {error}")
        except Exception as error:  # an error that no rule allows, a hang included
            trial.check.fails(
                promise, expected="an answer", seen=f"at try {tries} {type(error).__qualname__}: {error}, or a hang"
            )
        await asyncio.sleep(0.05)


async def answer_of(call: Awaitable[T]) -> T | StorageError:
    """Await *call*; an error that says try again is an answer, too."""
    try:
        return await call
    except StorageError as error:
        if not error.retryable:
            raise
        return error


async def interrupted(trial: Trial, proxy: FaultProxy, call: Awaitable[T], which: str) -> T | StorageError:
    """Await *call*, and let the fault of *proxy* pass once it has struck; return the answer, or what says try again."""
    before = proxy.strikes
    task = asyncio.ensure_future(answer_of(call))
    while not task.done() and proxy.strikes == before:
        await asyncio.wait({task}, timeout=0.001)
    proxy.heal()
    return await trial.check.answers(task, f"{which}: an answer, or StorageUnavailableError")


async def bytes_of(
    trial: Trial, proxy: FaultProxy, direct: JobStorageProvider, storage: JobStorageProvider, name: str
) -> tuple[int, int]:
    """Return how many bytes the call of a scene sends and receives, once *storage* has made it before."""
    for _ in range(2):
        scene = await scene_of(trial, direct, name)
        proxy.heal()
        await mended(trial, lambda: scene.act.on(storage), f"to {name}")  # noqa: B023  # awaited at once
    return proxy.sent, proxy.received
