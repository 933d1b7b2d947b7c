"""Looking at what was queued and has not ended."""

from typing import TypeVar, cast

from pannier import Command, JobQueues, JobRecord, JobStatus, UsageError
from pannier.inspection import JobFilter
from pannier.storage import JobInspector

C = TypeVar("C", bound=Command[object])


async def queued_commands(jobs: JobQueues, command: type[C]) -> list[C]:
    """
    Return the commands of one class that wait to be executed, in the order in which they were queued.

    They are read from their payloads, as a worker would read them: `assert await queued_commands(jobs, Resize) ==
    [Resize("cat.png")]`. Those set for later are among them.

    Raises:
        UnregisteredCommandError: The class is not known to *jobs*.
        UsageError: *jobs* are not open, or their storage can't list jobs.
    """
    registration = jobs.registry.get(command)
    codec = registration.codec or jobs.codec
    return [cast("C", codec.decode(job.command, command)) for job in await queued_jobs(jobs, command)]


async def queued_jobs(jobs: JobQueues, command: type[Command[object]]) -> list[JobRecord]:
    """
    Return the jobs of one class of commands that wait to be executed: for their times, keys, priorities and metadata.

    Order and errors are those of `queued_commands`.
    """
    queue_ids = frozenset(jobs.registry.get(command).queue_ids)
    return await listed(jobs, JobFilter(queue_ids=queue_ids, statuses=frozenset({JobStatus.PENDING})))


async def listed(jobs: JobQueues, wanted: JobFilter) -> list[JobRecord]:
    """Return every job that is *wanted*, in the order in which they were queued."""
    storage = jobs.storage
    if not isinstance(storage, JobInspector):
        raise UsageError(f"{jobs.storage_name} can't list jobs: it has no add-on 'inspect'; test on memory://")
    found: list[JobRecord] = []
    cursor: str | None = None
    while True:
        page = await storage.find_jobs(wanted, cursor=cursor)
        found.extend(page.jobs)
        cursor = page.cursor
        if cursor is None:
            return sorted(found, key=lambda job: (job.created_at, job.tracking_id))
