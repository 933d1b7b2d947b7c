"""`pannier queues` and `pannier purge`."""

import json
from collections.abc import Callable
from types import ModuleType
from uuid import UUID

import pytest

from pannier import JobRecord, JobStatus

from .conftest import Ended

Run = Callable[..., Ended]
Queue = Callable[..., list[UUID]]
Stored = Callable[[UUID], JobRecord | None]


def test_jobs_are_counted_by_queue_and_status(
    pannier: Run, shop: ModuleType, queue: Queue, worked: Queue, url: str
) -> None:
    """A line of JSON for each queue holds the number of its jobs in each status, zeros included."""
    worked(shop.Greet("Ada"), shop.Greet("Bea"), shop.Refuse("no"))
    queue(shop.Greet("Cleo"))

    lines = [json.loads(line) for line in pannier("queues", url, "--json").out.splitlines()]

    nothing = dict.fromkeys((status.value for status in JobStatus), 0)
    assert lines == [
        {**nothing, "queue_id": "Greet", "pending": 1, "succeeded": 2},
        {**nothing, "queue_id": "Refuse", "failed": 1},
    ]


def test_the_queues_of_a_program_are_counted_though_empty(pannier: Run, shop: ModuleType) -> None:
    """Given MODULE:JOBS, a queue with a handler is listed even if it holds no job."""
    assert "Sit" in pannier("queues", f"{shop.__name__}:jobs").out


def test_purging_deletes_what_ended_long_enough_ago(
    pannier: Run, shop: ModuleType, worked: Queue, stored: Stored, url: str
) -> None:
    """A job that ended longer ago than --older-than is gone, and counted."""
    [tracking_id] = worked(shop.Greet("Ada"))

    ended = pannier("purge", url, "--older-than=0s")

    assert (ended.code, ended.out) == (0, "deleted 1, marked expired 0\n")
    assert stored(tracking_id) is None


def test_purging_keeps_what_ended_just_now(
    pannier: Run, shop: ModuleType, worked: Queue, stored: Stored, url: str
) -> None:
    """A job that ended within --older-than stays."""
    [tracking_id] = worked(shop.Greet("Ada"))

    pannier("purge", url, "--older-than=1h")

    assert stored(tracking_id) is not None


def test_purging_leaves_dead_letters_unless_they_are_named(
    pannier: Run, shop: ModuleType, worked: Queue, stored: Stored, url: str
) -> None:
    """Failed jobs are there to be looked at, so only --status=failed deletes them."""
    [tracking_id] = worked(shop.Refuse("no"))

    pannier("purge", url, "--older-than=0s")
    kept = stored(tracking_id)
    pannier("purge", url, "--older-than=0s", "--status=failed")

    assert kept is not None
    assert stored(tracking_id) is None


def test_purging_keeps_other_queues(pannier: Run, shop: ModuleType, worked: Queue, stored: Stored, url: str) -> None:
    """--queue limits what is deleted."""
    [tracking_id] = worked(shop.Greet("Ada"))

    pannier("purge", url, "--older-than=0s", "--queue=Refuse")

    assert stored(tracking_id) is not None


@pytest.mark.parametrize("status", ["pending", "running"])
def test_unfinished_jobs_can_not_be_purged(pannier: Run, url: str, status: str) -> None:
    """A status that does not end a job is refused."""
    ended = pannier("purge", url, "--older-than=0s", f"--status={status}")

    assert ended.code == 2
    assert f"'{status}' is no status that ends a job" in ended.err


def test_purging_needs_an_age(pannier: Run, url: str) -> None:
    """Nothing is deleted by default: the age has to be said."""
    assert pannier("purge", url).code == 2
