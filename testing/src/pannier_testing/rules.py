"""
The rules of the contract, and the registry of the functions that test them.

The rules themselves stand in `contract.toml`; `rule` marks a coroutine function as a test of one of them.
"""

import importlib
import pkgutil
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from pannier.storage import ADD_ONS

if TYPE_CHECKING:
    from pannier_testing.trial import Trial


class Need(StrEnum):
    """What a storage must be or offer for a test to be asked of it. Where it does not, the test is *not offered*."""

    DURABLE = "durable"
    SHARED = "shared"
    ATOMIC_BATCHES = "atomic_batches"
    SINGLE_WRITER = "single_writer"
    EMBEDDED = "embedded"
    NETWORK = "network"
    INSPECT = "inspect"
    NOTIFY = "notify"
    RESULTS = "results"
    TRANSACTIONS = "transactions"
    SCHEMA_HISTORY = "schema_history"
    NEWER_SCHEMA = "newer_schema"
    DAMAGE = "damage"
    STORE_SIZE = "store_size"
    PAUSE = "pause"


_LEVELS: Final[Mapping[str, frozenset[Need]]] = {
    "R": frozenset(),
    "V": frozenset(),
    "D": frozenset({Need.DURABLE}),
    "X": frozenset({Need.SHARED}),
    **{f"C:{name}": frozenset({Need(name)}) for name in (*ADD_ONS, "network", "schema_history", "pause")},
}


@frozen(kw_only=True)
class Rule:
    """
    One rule of the contract.

    Attributes:
        number: Such as "R30"; never reused.
        section: The letter of its section.
        levels: R, D, X, V or C:x; all must hold.
        how: The means by which it is tested, as `contract.toml` abbreviates them.
        text: The rule in words.
        why: The fault that it prevents.
        since: The contract version that brought it.
        is_held: Whether it waits for a feature that does not exist yet, and has no test.
    """

    number: str
    section: str
    levels: tuple[str, ...]
    how: tuple[str, ...]
    text: str
    why: str
    since: str = "1.0"
    is_held: bool = False

    @property
    def needs(self) -> frozenset[Need]:
        """What the rule's level asks of a storage."""
        return frozenset[Need]().union(*(_LEVELS[level] for level in self.levels))


@frozen(kw_only=True)
class RuleTest:
    """
    One test of one rule.

    Attributes:
        rule: The rule.
        function: Takes a `Trial`; its docstring says what it tries.
        needs: What it asks of a storage, the rule's own needs included.
        deadline: After so long it counts as hung.
    """

    rule: Rule
    function: "Callable[[Trial], Awaitable[None]]"
    needs: frozenset[Need]
    deadline: timedelta

    @property
    def name(self) -> str:
        """Its name, unique in the suite."""
        return self.function.__name__

    @property
    def id(self) -> str:
        """How pytest and reports spell it."""
        return f"{self.rule.number}-{self.name}"


def read_contract() -> dict[str, Rule]:
    """Return every rule of the contract, by number."""
    table = tomllib.loads(files("pannier_testing").joinpath("contract.toml").read_text("utf-8"))
    return {number: _read_rule(number, entry) for number, entry in table["rules"].items()}


def _read_rule(number: str, entry: Mapping[str, Any]) -> Rule:
    return Rule(
        number=number,
        section=entry["section"],
        levels=tuple(entry["levels"]),
        how=tuple(entry["how"]),
        text=entry["text"],
        why=entry["why"],
        since=entry.get("since", "1.0"),
        is_held=entry.get("is_held", False),
    )


def read_sections() -> dict[str, str]:
    """Return the titles of the contract's sections, by letter."""
    table = tomllib.loads(files("pannier_testing").joinpath("contract.toml").read_text("utf-8"))
    return {letter: entry["title"] for letter, entry in table["sections"].items()}


CONTRACT: Final[Mapping[str, Rule]] = read_contract()

_TESTED: Final = "__pannier_rule_test__"


def rule(
    number: str, *, needs: frozenset[Need] = frozenset(), deadline: timedelta = timedelta(seconds=60)
) -> "Callable[[Callable[[Trial], Awaitable[None]]], Callable[[Trial], Awaitable[None]]]":
    """
    Mark a coroutine function of `pannier_testing.conformance` as a test of the rule *number*.

    Args:
        number: Such as "R30".
        needs: What it asks of a storage beyond the rule's own level.
        deadline: After so long it counts as hung; longer profiles multiply it.
    """
    return rules(number, needs=needs, deadline=deadline)


def rules(
    *numbers: str, needs: frozenset[Need] = frozenset(), deadline: timedelta = timedelta(seconds=60)
) -> "Callable[[Callable[[Trial], Awaitable[None]]], Callable[[Trial], Awaitable[None]]]":
    """
    Mark a coroutine function as a test of each of the rules *numbers*; `Trial.rule` says which one it is run for.

    Args:
        numbers: Such as "R30".
        needs: As of `rule`.
        deadline: As of `rule`.
    """

    def mark(function: "Callable[[Trial], Awaitable[None]]") -> "Callable[[Trial], Awaitable[None]]":
        known = [CONTRACT[number] for number in numbers]
        tests = [RuleTest(rule=r, function=function, needs=r.needs | needs, deadline=deadline) for r in known]
        setattr(function, _TESTED, tests)
        return function

    return mark


def collect_tests() -> tuple[RuleTest, ...]:
    """Return every test of the suite, in the order of the rules' numbers."""
    package = importlib.import_module("pannier_testing.conformance")
    found: list[RuleTest] = []
    for module_info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module_info.name.rpartition(".")[2].startswith("test_"):
            continue
        module = importlib.import_module(module_info.name)
        mine = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
        found += [test for value in mine for test in getattr(value, _TESTED, ())]
    return tuple(sorted(found, key=lambda test: (int(test.rule.number[1:]), test.name)))
