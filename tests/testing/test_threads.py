"""An instance on a thread and a loop of its own."""

import asyncio
import threading
from random import Random

import pytest

from pannier.errors import StorageClosedError
from pannier.storage import JobStorageProvider
from pannier_testing.builders import full_job, new_id
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.threads import OtherThread

ID = new_id(Random(1))


async def thread_name(storage: JobStorageProvider) -> str:
    """Return the name of the thread that this runs on."""
    return threading.current_thread().name


async def test_calls_run_on_the_other_thread_and_share_the_store() -> None:
    """What a call stores on its own thread is seen by an instance here."""
    shelf = Shelf(Model())
    here, other = ReferenceProvider(shelf), OtherThread(ReferenceProvider(shelf))
    await here.open()
    await other.start()

    assert await other.run(thread_name) == "pannier-trial"
    await other.run(lambda storage: storage.store_jobs([full_job(ID)]))

    assert await here.get_job(ID) == full_job(ID)
    await other.stop()


async def test_stopping_closes_the_instance_and_ends_the_thread() -> None:
    """After stop() the instance is closed and the thread is gone; a second stop() is fine."""
    storage = ReferenceProvider(Shelf(Model()))
    other = OtherThread(storage)
    await other.start()

    await other.stop()
    await other.stop()

    assert "pannier-trial" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(StorageClosedError):
        await storage.get_job(ID)


async def test_an_error_over_there_is_raised_here() -> None:
    """A call that raises on its thread raises where it is awaited."""
    other = OtherThread(ReferenceProvider(Shelf(Model())))
    await other.start()

    async def fail(storage: JobStorageProvider) -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await other.run(fail)
    await other.stop()
