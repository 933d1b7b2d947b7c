"""Section L, of disks: a full one, and files that may not be written or read. For durable storages in files."""

from typing import Any
from uuid import UUID

from pannier.storage import JobStorageProvider
from pannier_testing.checks import BlockedError, InconclusiveError
from pannier_testing.failing_disk import QUEUE_ID, fill_the_disk, modes_kept, use_without_rights
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial

EMBEDDED = frozenset({Need.EMBEDDED})


@rule("R90", needs=EMBEDDED)
async def a_full_disk_is_a_clear_error_and_loses_nothing(trial: Trial) -> None:
    """Files may not grow for a while: storing raises a StorageError, what was stored stays, then all works again."""
    nursery = await trial.open_nursery()
    folder = str(trial.place.tmp)
    pid = await nursery.fork(trial.url, fill_the_disk, folder=folder, seed=trial.rng.getrandbits(64))
    told: Any = await trial.check.answers(nursery.join(pid), "a process that meets a full disk goes on")

    trial.sizes["jobs on a full disk"] = len(told["stored"])
    trial.check.true(
        told["error"] in ("", "StorageError"), "a full disk is a StorageError", expected="that", seen=told["error"]
    )
    trial.check.equal(told["error after"], "", "the same instance works once there is room again")
    storage = await trial.open()
    for tracking_id in (*told["stored"], told["after"]):
        found = await storage.get_job(UUID(tracking_id))
        trial.check.true(found is not None, "what was acknowledged is there", expected=tracking_id, seen=found)
    if not told["error"]:
        raise InconclusiveError("the disk was never full: 64 MiB went somewhere else than into this process's files")


@rule("R90", needs=EMBEDDED)
async def files_without_rights_are_a_clear_error_and_lose_nothing(trial: Trial) -> None:
    """Files that may be read only, or not even read: a StorageError; with their rights back, all is as it was."""
    storage = await trial.open()
    job = trial.job(QUEUE_ID)
    await storage.store_jobs([job])
    await storage.close()
    if not any(path.is_file() for path in trial.place.tmp.rglob("*")):
        raise BlockedError("the store is not in {tmp}, so its files can't be made read-only")
    nursery = await trial.open_nursery()
    for what, files in (("may only be read", 0o444), ("may not be read", 0o000)):
        with modes_kept(trial.place.tmp):
            pid = await nursery.fork(
                trial.url,
                use_without_rights,
                where=trial.url,
                adapters=[*trial.subject.adapters],
                folder=str(trial.place.tmp),
                files=files,
                seed=trial.rng.getrandbits(64),
            )
            told = await trial.check.answers(nursery.join(pid), f"a process whose files {what} goes on")
        trial.check.equal(told, "StorageError", f"a store whose files {what} raises a StorageError")
        await check_intact(trial, await trial.open(), job.tracking_id, f"after its files {what}")


async def check_intact(trial: Trial, storage: JobStorageProvider, tracking_id: UUID, when: str) -> None:
    """See that the job is there, and that another one can be stored."""
    found = await storage.get_job(tracking_id)
    trial.check.true(found is not None, f"{when} the store has its jobs", expected=str(tracking_id), seen=found)
    other = trial.job(QUEUE_ID)
    trial.check.equal(await storage.store_jobs([other]), [other.tracking_id], f"{when} the store takes jobs again")
    await storage.close()
