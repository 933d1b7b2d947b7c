"""
The fixtures for tests of applications. They come with the pytest plugin, and do nothing where no test asks for them.

Nothing of pannier is imported before that, so that other tests start as quickly as ever.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier import JobQueues
    from pannier_testing.applications.clock import ManualClock


@pytest.fixture
def pannier_clock() -> "ManualClock":
    """The clock of `pannier_jobs`: it stands still until the test says `pannier_clock.advance(hours=4)`."""
    from pannier_testing.applications.clock import ManualClock

    return ManualClock()


@pytest.fixture
def pannier_application() -> "JobQueues":
    """Your application's `JobQueues`: override it in conftest.py. Without that, job queues that know no command yet."""
    from pannier import JobQueues

    return JobQueues("memory://")


@pytest.fixture
def pannier_jobs(pannier_application: "JobQueues", pannier_clock: "ManualClock") -> "Iterator[JobQueues]":
    """Fresh `JobQueues` with the handlers and options of `pannier_application`, in memory, by `pannier_clock`."""
    jobs = pannier_application.on_storage("memory://", environment=pannier_clock.environment)
    yield jobs
    jobs.sync.close()
