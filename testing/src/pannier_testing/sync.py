"""The helpers for tests without an event loop; each waits for its namesake in `pannier_testing`."""

from datetime import timedelta
from typing import TypeVar

import pannier_testing
from pannier import Command, JobQueues, JobRecord
from pannier_testing.applications.draining import PATIENCE

C = TypeVar("C", bound=Command[object])
R = TypeVar("R")


def drain(jobs: JobQueues, *, within: timedelta = PATIENCE) -> list[JobRecord]:
    """Do as `pannier_testing.drain`, on the loop on which *jobs* are open, else on that of `jobs.sync`."""
    return jobs.sync.portal.run(lambda: pannier_testing.drain(jobs, within=within))


def run_due_jobs(jobs: JobQueues, *, within: timedelta = PATIENCE) -> list[JobRecord]:
    """Do as `pannier_testing.run_due_jobs`."""
    return jobs.sync.portal.run(lambda: pannier_testing.run_due_jobs(jobs, within=within))


def queued_commands(jobs: JobQueues, command: type[C]) -> list[C]:
    """Do as `pannier_testing.queued_commands`."""
    return jobs.sync.portal.run(lambda: pannier_testing.queued_commands(jobs, command))


def queued_jobs(jobs: JobQueues, command: type[Command[object]]) -> list[JobRecord]:
    """Do as `pannier_testing.queued_jobs`."""
    return jobs.sync.portal.run(lambda: pannier_testing.queued_jobs(jobs, command))


def run_inline(jobs: JobQueues, command: Command[R]) -> R:
    """Do as `pannier_testing.run_inline`."""
    return jobs.sync.portal.run(lambda: pannier_testing.run_inline(jobs, command))
