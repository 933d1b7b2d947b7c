"""Retry policies, and what becomes of a failed attempt."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from pannier import NO_RETRY, Command, JobQueues, JobRecord, QueueOptions, RetryPolicy
from pannier.errors import ConfigurationError
from pannier.settlements import Failed, Retry
from pannier.worker.failures import describe, judge

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ERROR = ValueError("no")


@frozen
class Work(Command[None]):
    """Anything."""


class Highest(Random):
    """Always draws close to 1, so that a delay is its own bound."""

    def random(self) -> float:
        return 1.0


def job(*, attempt: int = 1, lapses: int = 0, expire_on: datetime | None = None) -> JobRecord:
    """Return a job in its *attempt*."""
    jobs = JobQueues("memory://")
    jobs.declare(Work)
    made = jobs.create_job(Work(), execute_after=datetime(2029, 1, 1, tzinfo=UTC), expire_on=expire_on)
    return evolve(made, attempt=attempt, lapses=lapses)


def verdict(
    policy: RetryPolicy, of: JobRecord, *, error: BaseException = ERROR, chosen: timedelta | None = None
) -> Retry | Failed:
    """Judge a failed attempt."""
    return judge(
        error,
        job=of,
        options=QueueOptions(retry=policy),
        now=NOW,
        random=Highest(),
        choose_delay=lambda _job, _error: chosen,
    )


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 256)])
def test_the_bound_of_the_delay_doubles(attempt: int, seconds: int) -> None:
    """From one second on."""
    assert RetryPolicy().delay(attempt=attempt, error=ERROR, random=Highest()) == timedelta(seconds=seconds)


@given(st.integers(1, 10_000), st.floats(1, 1e300), st.integers())
def test_a_delay_lies_between_nothing_and_its_maximum(attempt: int, factor: float, seed: int) -> None:
    """Whatever the attempt and the factor, without an overflow."""
    policy = RetryPolicy(max_attempts=20_000, factor=factor)
    delay = policy.delay(attempt=attempt, error=ERROR, random=Random(seed))
    assert delay is not None
    assert timedelta(0) <= delay <= policy.max_delay


def test_the_last_attempt_is_final() -> None:
    """Ten attempts by default, one without retry."""
    assert RetryPolicy().delay(attempt=9, error=ERROR, random=Random(1)) is not None
    assert RetryPolicy().delay(attempt=10, error=ERROR, random=Random(1)) is None
    assert NO_RETRY.delay(attempt=1, error=ERROR, random=Random(1)) is None


def test_some_errors_are_given_up_on() -> None:
    """Subclasses included."""
    policy = RetryPolicy(give_up_on=(LookupError,))
    assert policy.delay(attempt=1, error=KeyError("x"), random=Random(1)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"first_delay": timedelta(-1)}, "first_delay"),
        ({"max_delay": timedelta(0)}, "max_delay"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"max_attempts": "3"}, "max_attempts"),
        ({"first_delay": 1}, "first_delay"),
        ({"give_up_on": 1}, "give_up_on"),
        ({"give_up_on": ("ValueError",)}, "give_up_on"),
    ],
)
def test_a_policy_refuses_bad_values_by_name(options: dict[str, object], message: str) -> None:
    """When it is made."""
    with pytest.raises(ConfigurationError, match=message):
        RetryPolicy(**options)  # type: ignore[arg-type]  # the fault that the test is about


def test_a_dying_worker_burns_nobodys_tries() -> None:
    """E14: the policy sees the attempts less the lapses."""
    policy = RetryPolicy(max_attempts=2)
    assert isinstance(verdict(policy, job(attempt=3, lapses=2)), Retry)
    assert isinstance(verdict(policy, job(attempt=3, lapses=1)), Failed)


def test_a_plugin_chooses_the_delay_but_not_whether_there_is_one() -> None:
    """Zero or more; a negative one is none."""
    assert verdict(RetryPolicy(), job(), chosen=timedelta(hours=1)) == Retry(
        NOW + timedelta(hours=1), describe(ERROR, attempt=1, at=NOW)
    )
    assert verdict(RetryPolicy(), job(), chosen=timedelta(-1)) == Retry(NOW, describe(ERROR, attempt=1, at=NOW))
    assert isinstance(verdict(NO_RETRY, job(), chosen=timedelta(0)), Failed)


def test_a_delay_beyond_the_end_of_time_is_no_fault() -> None:
    """A policy or a plugin that says "never" does not take the attempt's judge down."""
    assert isinstance(verdict(RetryPolicy(), job(), chosen=timedelta.max), Retry)
    assert isinstance(verdict(RetryPolicy(max_delay=timedelta.max, first_delay=timedelta.max), job()), Retry)


def test_a_retry_that_would_come_too_late_is_a_failure() -> None:
    """R58: as the storage would apply it, so that log and events say what became of the job."""
    soon = NOW + timedelta(seconds=1)
    assert isinstance(verdict(RetryPolicy(), job(expire_on=soon)), Failed)
    assert isinstance(verdict(RetryPolicy(), job(expire_on=soon + timedelta(microseconds=1))), Retry)


class UnspeakableError(Exception):
    """Can't be shown."""

    def __str__(self) -> str:
        raise SystemExit


def test_an_error_that_cannot_be_shown_is_described_all_the_same() -> None:
    """E8: whatever its `__str__` does."""
    described = describe(UnspeakableError(), attempt=1, at=NOW)
    assert described.kind.endswith("UnspeakableError")
    assert "can't be shown: SystemExit" in described.message
