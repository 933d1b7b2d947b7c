"""What is measured: cases, each of them one measure on one storage with its numbers."""

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import evolve, field, frozen

STORAGES: Final = ("memory", "sqlite", "sqlite-normal", "postgres", "mongo")
MEASURES: Final = (
    "drain",
    "enqueue",
    "bulk",
    "latency",
    "latency_apart",
    "processes",
    "claims_waiting",
    "claims_scheduled",
    "claims_finished",
    "idle",
    "imports",
)
SHARED: Final = ("sqlite", "sqlite-normal", "postgres", "mongo")
"""Where several processes work on the same jobs."""


@frozen(kw_only=True)
class Case:
    """
    One thing to measure.

    Attributes:
        measure: Which function of a contestant's module.
        storage: Where the jobs are.
        numbers: The numbers of the `Task`.
    """

    measure: str
    storage: str
    numbers: Mapping[str, int] = field(factory=dict[str, int])

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {number:,}" for name, number in self.numbers.items() if name != "jobs")
        return f"{self.measure} on {self.storage}" + (f", {numbers}" if numbers else "")

    def with_at_most(self, jobs: int) -> "Case":
        """Return the same with fewer jobs."""
        return evolve(self, numbers={**self.numbers, "jobs": min(self.numbers["jobs"], jobs)})


def cases(measures: Iterable[str], storages: Iterable[str]) -> list[Case]:
    """Return all cases of these measures on these storages."""
    return [
        Case(measure=measure, storage=storage, numbers=numbers)
        for storage in storages
        for measure in measures
        for numbers in _numbers(measure, storage)
    ]


def _numbers(measure: str, storage: str) -> list[Mapping[str, int]]:
    if storage == "mongo":
        return _few(measure)
    match measure:
        case "drain":
            return [{"jobs": 20_000 if number > 1 else 5_000, "concurrency": number} for number in (1, 10, 100, 1_000)]
        case "enqueue" if storage != "memory":
            return [{"jobs": 2_000 if number == 1 else 10_000, "callers": number} for number in (1, 10, 100, 1_000)]
        case "bulk" if storage != "memory":
            return [{"jobs": 20_000, "batch": 1_000}]
        case "processes" if storage in SHARED:
            return [{"jobs": 20_000, "concurrency": 100, "workers": number} for number in (1, 2, 4)]
        case "claims_waiting" | "claims_scheduled" | "claims_finished":
            return [{"waiting": number} for number in (1_000, 100_000, 1_000_000)]
        case _:
            return _of_one_job(measure, storage)


def _of_one_job(measure: str, storage: str) -> list[Mapping[str, int]]:
    """Return what takes as long as it takes, whatever the storage."""
    match measure:
        case "latency":
            return [{"jobs": 200}]
        case "latency_apart" if storage in SHARED:
            return [{"jobs": 200}]
        case "idle":
            return [{"seconds": 60}]
        case "imports" if storage == "memory":
            return [{}]
        case _:
            return []


def _few(measure: str) -> list[Mapping[str, int]]:
    """Return what the stand-in for MongoDB is asked: it is Python, takes a millisecond a job, and backlogs slow it."""
    match measure:
        case "drain":
            return [{"jobs": 3_000, "concurrency": 100}]
        case "enqueue":
            return [{"jobs": 500, "callers": number} for number in (1, 10)]
        case "bulk":
            return [{"jobs": 5_000, "batch": 1_000}]
        case "claims_waiting" | "claims_scheduled" | "claims_finished":
            return [{"waiting": number} for number in (1_000, 10_000)]
        case _:
            return _of_one_job(measure, "mongo")
