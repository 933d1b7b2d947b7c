"""Hooks: what plugins are asked and told, and that a faulty one harms nobody else."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from attrs import frozen

from pannier import Command, JobEvent, JobEventKind, JobQueues, JobRecord, RetryPolicy, hookimpl


@frozen
class Work(Command[str]):
    """Fails as often as it is told to."""

    failures: int = 0


class Witness:
    """Remembers every event."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []

    @hookimpl
    def pannier_job_event(self, event: JobEvent) -> None:
        self.events.append(event)


class Faulty:
    """Raises from every hook that runs beside jobs."""

    @hookimpl
    def pannier_job_event(self, event: JobEvent) -> None:
        raise RuntimeError(f"a fault on {event.kind}")

    @hookimpl
    def pannier_retry_delay(self, job: JobRecord, error: Exception) -> timedelta | None:
        raise RuntimeError("a fault")


class Immediate:
    """Tries again at once."""

    @hookimpl
    def pannier_retry_delay(self, error: Exception) -> timedelta | None:
        return timedelta(0)


class Tenant:
    """Keeps a tenant beside each job."""

    def __init__(self, **entries: str) -> None:
        self._entries = entries

    @hookimpl
    def pannier_job_metadata(self, command: Command[object]) -> Mapping[str, str]:
        return self._entries


def run(*plugins: object, failures: int = 0) -> JobRecord:
    """Queue one job, wait for its end, and return it."""
    jobs = JobQueues("memory://", plugins=plugins)

    @jobs.handler(retry=RetryPolicy(max_attempts=5, first_delay=timedelta(hours=1), max_delay=timedelta(hours=1)))
    async def work(command: Work, job: object = None) -> str:
        runs.append(1)
        if len(runs) <= command.failures:
            raise ValueError("not yet")
        return "done"

    runs: list[int] = []

    async def main() -> JobRecord:
        async with jobs.worker():
            tracking_id = await jobs.queue_job(Work(failures))
            await jobs.tracker(Work).wait_for_result(tracking_id, timeout=timedelta(seconds=10))
            job = await jobs.tracker(Work).get_job(tracking_id)
            assert job is not None
            return job

    return asyncio.run(main())


def test_events_tell_a_jobs_life_in_order() -> None:
    """From being queued to its end; a retry says when."""
    witness = Witness()
    job = run(witness, Immediate(), failures=1)

    assert [event.kind for event in witness.events] == [
        JobEventKind.QUEUED,
        JobEventKind.CLAIMED,
        JobEventKind.RETRIED,
        JobEventKind.CLAIMED,
        JobEventKind.SUCCEEDED,
    ]
    assert {event.tracking_id for event in witness.events} == {job.tracking_id}
    retried = witness.events[2]
    assert retried.error is not None
    assert retried.error.message == "not yet"
    assert retried.retry_at == retried.error.at


def test_a_duplicate_is_an_event_that_names_the_job_that_stands() -> None:
    """And nothing else is stored."""
    witness = Witness()
    jobs = JobQueues("memory://", plugins=[witness])
    jobs.declare(Work)

    async def main() -> None:
        async with jobs:
            first = await jobs.queue_job(Work(), idempotency_key="k")
            assert await jobs.queue_job(Work(), idempotency_key="k") == first
            assert [(event.kind, event.tracking_id) for event in witness.events] == [
                (JobEventKind.QUEUED, first),
                (JobEventKind.DUPLICATE, first),
            ]

    asyncio.run(main())


@pytest.mark.parametrize("order", [1, -1])
def test_a_faulty_plugin_keeps_nothing_from_the_others(order: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever was registered first; its fault is logged with its name."""
    witness = Witness()
    run(*[Faulty(), witness, Immediate()][::order], failures=1)

    assert JobEventKind.SUCCEEDED in {event.kind for event in witness.events}
    assert "of plugin 'Faulty' failed" in caplog.text


def test_metadata_of_plugins_is_merged_below_the_callers() -> None:
    """Entries that the caller gives win over hooks', and all are kept beside the job."""
    jobs = JobQueues("memory://", plugins=[Tenant(tenant="a", trace="1")])
    jobs.declare(Work)
    assert jobs.create_job(Work(), metadata={"tenant": "b"}).metadata == {"tenant": "b", "trace": "1"}
