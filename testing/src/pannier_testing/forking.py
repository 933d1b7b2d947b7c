"""What a process does that forks while it holds a storage (R93). Run in a child."""

import asyncio
import os
import threading
import time
from uuid import UUID

from pannier.errors import PannierError
from pannier.records import Json
from pannier.storage import JobStorageProvider

PATIENCE = 15.0
"""Seconds that the forked process may take."""


async def use_in_a_fork(storage: JobStorageProvider, *, tracking_id: str) -> Json:
    """Fork, use the storage there and then here; tell what came of both."""
    there = await asyncio.to_thread(_forked, storage, UUID(tracking_id))
    job = await storage.get_job(UUID(tracking_id))
    return {"there": there, "here": "works" if job is not None else "the job is gone"}


def _forked(storage: JobStorageProvider, tracking_id: UUID) -> str:
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        told: list[str] = []
        user = threading.Thread(target=lambda: told.append(asyncio.run(_use(storage, tracking_id))), daemon=True)
        user.start()
        user.join(PATIENCE)
        os.write(send, (told[0] if told else "it hung").encode())
        os._exit(0)
    os.close(send)
    deadline = time.monotonic() + 2 * PATIENCE
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    assert time.monotonic() < deadline
    return answer


async def _use(storage: JobStorageProvider, tracking_id: UUID) -> str:
    told = await _look(storage, tracking_id)
    try:
        await storage.close()  # as the end of a block does, whoever forked inside of it
    except PannierError:
        pass
    except Exception as error:  # told to the test
        return f"close(): {type(error).__qualname__}: {error}"
    return told


async def _look(storage: JobStorageProvider, tracking_id: UUID) -> str:
    try:
        job = await storage.get_job(tracking_id)
    except PannierError:
        return "raises a clear error"
    except Exception as error:  # told to the test
        return f"{type(error).__qualname__}: {error}"
    return "works" if job is not None else "answers that there is no such job"
