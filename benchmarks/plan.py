"""What is measured: cases, each of them one measure on one storage with its numbers."""

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import evolve, field, frozen

STORAGES: Final = ("memory", "sqlite", "sqlite-normal", "postgres", "mongo")
MEASURES: Final = ("drain", "enqueue", "bulk")


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
        case _:
            return []
