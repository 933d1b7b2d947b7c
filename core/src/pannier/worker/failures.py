"""From an exception to what is stored of it and what becomes of its job."""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from pannier.options import QueueOptions
from pannier.records import JobError, JobRecord
from pannier.settlements import Failed, Retry

_END_OF_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC)


def describe(error: BaseException, *, attempt: int, at: datetime) -> JobError:
    """Write *error* down. Never fails, whatever its `__str__` does."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except BaseException as fault:  # a user's __str__ may raise anything
        message = f"<its message can't be shown: {type(fault).__name__}>"
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as fault:  # formatting calls the user's __str__ as well
        text = f"<its traceback can't be shown: {type(fault).__name__}>"
    return JobError(attempt=attempt, at=at, kind=name, message=message, traceback=text)


def judge(
    error: BaseException,
    *,
    job: JobRecord,
    options: QueueOptions,
    now: datetime,
    random: Random,
    choose_delay: Callable[[JobRecord, Exception], timedelta | None],
) -> Retry | Failed:
    """
    Decide whether the failed attempt of *job* is tried again, and when.

    The policy sees the attempts less the lapses: a dying worker burns nobody's tries (E14). A plugin may choose another
    delay than the policy's, not whether there is one.
    """
    stored = describe(error, attempt=job.attempt, at=now)
    delay = options.retry.delay(attempt=max(1, job.attempt - job.lapses), error=error, random=random)
    if delay is None:
        return Failed(stored)
    if isinstance(error, Exception):
        chosen = choose_delay(job, error)
        delay = delay if chosen is None else max(chosen, timedelta(0))
    at = _later(now, delay)
    # A storage would apply a retry that comes too late as a failure (R58); said here, the log and the events are right.
    return Failed(stored) if job.expire_on is not None and job.expire_on <= at else Retry(at, stored)


def _later(now: datetime, delay: timedelta) -> datetime:
    return now + delay if delay < _END_OF_TIME - now else _END_OF_TIME


def died_too_often(job: JobRecord, *, at: datetime) -> Failed:
    """Return the end of a job that is a poison pill: it has outlived three workers in a row (E14)."""
    return Failed(
        JobError(
            attempt=job.attempt,
            at=at,
            kind="pannier.WorkerDied",
            message="its worker died three times in a row",
        )
    )
