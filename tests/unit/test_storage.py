"""What every storage calls or is asked by: the check of new jobs, and the add-ons that it offers."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from pannier.plugins import Plugins
from pannier.records import JobError, JobRecord, JobStatus, Payload
from pannier.storage import ADD_ONS, add_ons, check_new_jobs
from pannier.urls import StorageUrl
from tests.engine.troubled import TroubledStorage

T0 = datetime(2030, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
ERROR = JobError(attempt=1, at=T0, kind="ValueError", message="no")
NEW = JobRecord(
    tracking_id=UUID(int=7),
    queue_id="mail",
    command=Payload("hello"),
    execute_after=T0,
    expire_on=T0 + timedelta(hours=1),
    created_at=T0,
    priority=3,
    idempotency_key="key",
    metadata={"tenant": "acme"},
)


def test_a_new_job_may_have_all_that_a_caller_sets() -> None:
    """R1: and any number of them may be stored at once."""
    check_new_jobs([])
    check_new_jobs([NEW, evolve(NEW, expire_on=None)], time_resolution=MILLISECOND)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("status", {"status": JobStatus.RUNNING}),
        ("status", {"status": JobStatus.FAILED, "finished_at": T0}),
        ("attempt", {"attempt": 1}),
        ("lapses", {"lapses": 1}),
        ("fence", {"fence": 1}),
        ("dequeue_after", {"dequeue_after": T0 + MILLISECOND}),
        ("worker_id", {"worker_id": "w"}),
        ("progress", {"progress": Payload(1)}),
        ("result", {"result": Payload(None)}),
        ("errors", {"errors": (ERROR,)}),
    ],
)
def test_what_only_a_storage_writes_is_refused_in_a_new_job(field: str, changes: Mapping[str, Any]) -> None:
    """R1: the message names the job and the field; one bad job of many is enough."""
    with pytest.raises(ValueError, match=f"job {NEW.tracking_id} is not new: {field} is set by storages only"):
        check_new_jobs([NEW, evolve(NEW, **changes)])


def test_what_is_no_record_is_refused() -> None:
    """A command is not a job yet."""
    with pytest.raises(TypeError, match="jobs must be JobRecords, not str"):
        check_new_jobs(["hello"])  # type: ignore[list-item]


def test_a_job_that_rounding_would_leave_no_time_is_refused() -> None:
    """R20: to the storage's resolution, execute_after goes up and expire_on down."""
    starts = T0 + timedelta(microseconds=1)
    short = evolve(NEW, execute_after=starts, dequeue_after=starts, expire_on=T0 + timedelta(microseconds=999))
    check_new_jobs([short])
    with pytest.raises(ValueError, match="also after rounding to"):
        check_new_jobs([short], time_resolution=MILLISECOND)


def test_add_ons_are_found_by_type() -> None:
    """A storage says nothing about them; it has their methods."""
    memory = Plugins.installed().create_storage(StorageUrl("memory://"))
    assert add_ons(memory) == {"inspect", "notify", "results"}
    assert add_ons(memory) <= set(ADD_ONS)


def test_what_a_storage_withholds_it_does_not_offer() -> None:
    """A server may lack what the adapter could do."""
    storage = TroubledStorage()
    storage.pushes = False
    assert add_ons(storage) == {"inspect", "results"}
