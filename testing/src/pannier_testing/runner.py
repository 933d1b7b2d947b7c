"""
Runs tests: looks at the storage once, then gives each test a place, an event loop and a seed of its own.

Nothing here knows pytest. Each test runs in its own `asyncio.Runner`, so what it leaves behind can be told exactly.
"""

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from attrs import Factory, frozen

from pannier.settlements import Settlement, Succeeded
from pannier_testing import builders
from pannier_testing.checks import BlockedError, InconclusiveError, RuleBrokenError
from pannier_testing.rules import RuleTest
from pannier_testing.subject import Place, Subject
from pannier_testing.trial import Measured, Profile, Trial
from pannier_testing.values import Values

T = TypeVar("T")

PATIENCE: Final = timedelta(seconds=60)
"""How long each call may take when a storage is first looked at."""


class Status(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    """By the rule's own assertion."""
    ERROR = "error"
    """By an error or a hang that the rule does not speak of, or by what it left behind."""
    NOT_OFFERED = "not offered"
    BLOCKED = "blocked"
    INCONCLUSIVE = "inconclusive"


@frozen(kw_only=True)
class Outcome:
    """
    What one test found.

    Attributes:
        rule: The rule's number.
        test: The test's name.
        status: How it ended.
        message: Why, unless it passed: for people, complete.
        assertion: What was promised, where the rule's own assertion failed.
        assertions: How many assertions were reached.
        seconds: How long it took.
        sizes: The sizes that were chosen, by what they count.
    """

    rule: str
    test: str
    status: Status
    message: str = ""
    assertion: str = ""
    assertions: int = 0
    seconds: float = 0.0
    sizes: dict[str, int] = Factory(dict)


@frozen(kw_only=True)
class Settings:
    """How to run: thoroughness, the seed that decides everything random, and the value classes under test."""

    profile: Profile = Profile.QUICK
    seed: int = 0
    values: Values = Factory(Values)

    @property
    def patience(self) -> int:
        """By how much deadlines are stretched."""
        return {Profile.QUICK: 1, Profile.FULL: 5, Profile.SOAK: 50}[self.profile]


def measure(subject: Subject) -> Measured:
    """
    Open the storage once in a place of its own, and see what it offers and how fast it is.

    Raises:
        Whatever the storage raises: without this nothing can be tested.
        TimeoutError: It hung; names the call.
    """
    place = Place.make()
    try:
        return asyncio.run(_measure(subject, place))
    finally:
        place.remove()


async def _measure(subject: Subject, place: Place) -> Measured:
    url = subject.url_in(place)
    storage = subject.create(url)
    try:
        await _in_time("open()", storage.open())
        count = 100
        began = time.perf_counter()
        rng = random.Random(0)
        jobs = [builders.new_job(builders.new_id(rng)) for _ in range(count)]
        await _in_time(f"store_jobs() of {count} jobs", storage.store_jobs(jobs))
        claimed = await _in_time("claim_jobs()", storage.claim_jobs(builders.claim_of(limit=count)))
        settlements = [Settlement(job.lease, Succeeded()) for job in claimed.jobs]
        await _in_time("settle_jobs()", storage.settle_jobs(settlements, now=builders.T0))
        took = time.perf_counter() - began
        return Measured(
            offers=subject.offers(storage, url),
            capabilities=storage.capabilities,
            contract_version=subject.adapter(url).contract_version,
            jobs_per_second=count / max(took, 1e-6),
        )
    finally:
        await _in_time("close()", storage.close())
        await subject.destroy(url, place)


async def _in_time(which: str, call: Awaitable[T]) -> T:
    limit = asyncio.timeout(PATIENCE.total_seconds())
    try:
        async with limit:
            return await call
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"{which} had not answered after {PATIENCE.total_seconds():g} s") from None
        raise


def run_test(test: RuleTest, subject: Subject, measured: Measured, settings: Settings) -> Outcome:
    """Run *test* on *subject* in a new place, and say how it ended. Raises nothing that the storage is to blame for."""
    missing = test.needs - measured.offers
    if missing:
        return _outcome(test, Status.NOT_OFFERED, f"the storage does not offer: {', '.join(sorted(missing))}")
    place = Place.make()
    began = time.perf_counter()
    try:
        trial = Trial(
            test,
            subject,
            place,
            measured=measured,
            profile=settings.profile,
            seed=settings.seed,
            values=settings.values,
        )
        status, message, assertion = _run(test, trial, settings)
        if status in (Status.FAILED, Status.ERROR):
            message = _worded(test, subject, settings, message)
        return _outcome(
            test,
            status,
            message,
            assertion=assertion,
            assertions=trial.check.count,
            seconds=time.perf_counter() - began,
            sizes=trial.sizes,
        )
    finally:
        place.remove()


def _run(test: RuleTest, trial: Trial, settings: Settings) -> tuple[Status, str, str]:
    deadline = test.deadline * settings.patience
    with asyncio.Runner() as runner:
        try:
            runner.run(_tried(test, trial, deadline))
        except RuleBrokenError as broken:
            return Status.FAILED, "\n".join([str(broken), *getattr(broken, "__notes__", ())]), broken.promise
        except BlockedError as reason:
            return Status.BLOCKED, str(reason), ""
        except InconclusiveError as reason:
            return Status.INCONCLUSIVE, str(reason), ""
        except Exception:  # whatever a storage raises is told, not swallowed
            return Status.ERROR, traceback.format_exc(), ""
    if trial.overlap.is_missing:
        return Status.INCONCLUSIVE, "calls that were started together never overlapped", ""
    if trial.check.count == 0:
        return Status.INCONCLUSIVE, "no assertion was reached", ""
    return Status.PASSED, "", ""


async def _tried(test: RuleTest, trial: Trial, deadline: timedelta) -> None:
    try:
        limit = asyncio.timeout(deadline.total_seconds())
        try:
            async with limit:
                await test.function(trial)
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"the test had not ended after {deadline.total_seconds():g} s") from None
            raise
        finally:
            async with asyncio.timeout(20):
                await trial.finish()
        await _look_for_tasks()
    finally:
        await trial.subject.destroy(trial.url, trial.place)


async def _look_for_tasks() -> None:
    for _ in range(20):  # callbacks of tasks that have just ended
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if left:
        raise RuntimeError(f"after close(), {len(left)} tasks were still running: {', '.join(map(repr, left))}")


def _worded(test: RuleTest, subject: Subject, settings: Settings, message: str) -> str:
    return (
        f"{test.rule.number} is not kept by {subject.label}\n"
        f"  the rule: {test.rule.text}\n"
        f"  the test: {' '.join((test.function.__doc__ or '').split())}\n"
        f"  {message}\n"
        f"  repeat:   {subject.repeat(test.rule.number, settings.seed)}"
    )


def _outcome(
    test: RuleTest,
    status: Status,
    message: str,
    *,
    assertion: str = "",
    assertions: int = 0,
    seconds: float = 0.0,
    sizes: dict[str, int] | None = None,
) -> Outcome:
    return Outcome(
        rule=test.rule.number,
        test=test.name,
        status=status,
        message=message,
        assertion=assertion,
        assertions=assertions,
        seconds=seconds,
        sizes=sizes or {},
    )
