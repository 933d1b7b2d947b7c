"""
What a run of the suite found, rule by rule, and the verdict.

Pure values and functions; `render` words them, the plugin gathers what they are made of.
"""

import platform
from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from attrs import Factory, asdict, frozen

from pannier.storage import ADD_ONS, CONTRACT_VERSION
from pannier_testing.rules import CONTRACT, Need, Rule, RuleTest
from pannier_testing.runner import Outcome, Status

FORMAT = 1
"""The version of the JSON report; described by `report.schema.json`."""


class Found(StrEnum):
    """What all tests of one rule say together."""

    PASSED = "passed"
    FAILED = "failed"
    DEVIATES = "deviates"
    """Fails, as declared."""
    ADVISORY = "advisory"
    """Fails, but is newer than the contract that the adapter declares."""
    STALE_DEVIATION = "stale deviation"
    """Is declared to fail, and does not."""
    BLOCKED = "blocked"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"
    NOT_OFFERED = "not offered"


class Verdict(StrEnum):
    """The whole."""

    CONFORMANT = "conformant"
    INCOMPLETE = "incomplete"
    NON_CONFORMANT = "non-conformant"


@frozen(kw_only=True)
class RuleReport:
    """What was found of one rule, and by which tests."""

    number: str
    found: Found
    note: str = ""
    outcomes: tuple[Outcome, ...] = ()

    @property
    def assertions(self) -> int:
        """How many assertions its tests reached."""
        return sum(outcome.assertions for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """How long its tests took."""
        return sum(outcome.seconds for outcome in self.outcomes)


@frozen(kw_only=True)
class Run:
    """
    What a run was about.

    Attributes:
        storage: The URL before it was filled, redacted, or the test class.
        contract_version: What the adapter declares.
        offers: The needs that the storage meets.
        profile: quick, full or soak.
        seed: Decides everything random.
    """

    storage: str
    contract_version: str
    offers: frozenset[Need]
    profile: str
    seed: int
    deviations: Mapping[str, str] = Factory(dict)


@frozen(kw_only=True)
class Report:
    """A run, and every rule of the contract in order."""

    run: Run
    rules: tuple[RuleReport, ...]

    @property
    def verdict(self) -> Verdict:
        """Judge: a required rule that is broken, or a declared fault in one, is worse than one that is not known."""
        required = [rule for rule in self.rules if self._is_required(CONTRACT[rule.number])]
        found = {rule.found for rule in required if not self._is_forgiven(rule)}
        if found & {Found.FAILED, Found.DEVIATES, Found.STALE_DEVIATION}:
            return Verdict.NON_CONFORMANT
        if found & {Found.BLOCKED, Found.INCONCLUSIVE, Found.NOT_RUN}:
            return Verdict.INCOMPLETE
        return Verdict.CONFORMANT

    @property
    def level(self) -> str:
        """How far the storage reaches: core, durable, or distributed (durable and shared)."""
        if Need.DURABLE not in self.run.offers:
            return "core"
        return "distributed" if Need.SHARED in self.run.offers else "durable"

    @property
    def add_ons(self) -> tuple[str, ...]:
        """The add-ons offered, sorted, without those that are declared to be faulty."""
        faulty = {add_on for rule in self.rules if rule.found is Found.DEVIATES for add_on in _add_ons_of(rule.number)}
        return tuple(name for name in ADD_ONS if Need(name) in self.run.offers and name not in faulty)

    @property
    def line(self) -> str:
        """The verdict in one line: "conformant 1.0 core + inspect, notify, results"."""
        if self.verdict is not Verdict.CONFORMANT:
            return str(self.verdict)
        return " + ".join(filter(None, [f"{self.verdict} {CONTRACT_VERSION} {self.level}", ", ".join(self.add_ons)]))

    def _is_required(self, rule: Rule) -> bool:
        return rule.needs <= self.run.offers and not rule.is_held and not is_newer(rule, self.run.contract_version)

    def _is_forgiven(self, rule: RuleReport) -> bool:
        return rule.found is Found.DEVIATES and bool(_add_ons_of(rule.number))

    def to_json(self) -> dict[str, Any]:
        """Return the report as the JSON document that `report.schema.json` describes."""
        return {
            "format": FORMAT,
            "verdict": str(self.verdict),
            "line": self.line,
            "level": self.level,
            "add_ons": list(self.add_ons),
            "contract_version": CONTRACT_VERSION,
            "storage": self.run.storage,
            "declared_contract_version": self.run.contract_version,
            "offers": sorted(self.run.offers),
            "profile": self.run.profile,
            "seed": self.run.seed,
            "deviations": dict(self.run.deviations),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "pannier": version("pannier"),
            "pannier_testing": version("pannier-testing"),
            "rules": [_rule_to_json(rule) for rule in self.rules],
        }


def make_report(run: Run, tests: Iterable[RuleTest], outcomes: Iterable[Outcome]) -> Report:
    """Return the report of *outcomes*, what was found by those of the suite's *tests* that ran."""
    expected: dict[str, list[str]] = {number: [] for number in CONTRACT}
    for test in tests:
        expected[test.rule.number].append(test.name)
    seen: dict[str, dict[str, Outcome]] = {number: {} for number in CONTRACT}
    for outcome in outcomes:
        seen[outcome.rule][outcome.test] = outcome
    return Report(run=run, rules=tuple(_rule_report(rule, expected[n], seen[n], run) for n, rule in CONTRACT.items()))


def is_newer(rule: Rule, contract_version: str) -> bool:
    """Whether *rule* came after *contract_version*, so that it is only advisory."""
    return _numbers(rule.since) > _numbers(contract_version)


def _rule_report(rule: Rule, expected: list[str], seen: dict[str, Outcome], run: Run) -> RuleReport:
    found = _together(expected, seen)
    note = ""
    if rule.is_held:
        found, note = Found.NOT_OFFERED, "held until the contract has pausing"
    elif not rule.needs <= run.offers:
        found, note = Found.NOT_OFFERED, f"needs {', '.join(sorted(rule.needs - run.offers))}"
    elif found is Found.FAILED and is_newer(rule, run.contract_version):
        found, note = Found.ADVISORY, f"new in contract {rule.since}"
    elif rule.number in run.deviations:
        note = run.deviations[rule.number]
        found = {Found.FAILED: Found.DEVIATES, Found.PASSED: Found.STALE_DEVIATION}.get(found, found)
    return RuleReport(number=rule.number, found=found, note=note, outcomes=tuple(seen.values()))


def _together(expected: list[str], seen: dict[str, Outcome]) -> Found:
    statuses = {outcome.status for outcome in seen.values()}
    if statuses & {Status.FAILED, Status.ERROR}:
        return Found.FAILED
    if not expected or not seen.keys() >= set(expected):
        return Found.NOT_RUN
    for status, found in ((Status.BLOCKED, Found.BLOCKED), (Status.INCONCLUSIVE, Found.INCONCLUSIVE)):
        if status in statuses:
            return found
    return Found.NOT_OFFERED if statuses == {Status.NOT_OFFERED} else Found.PASSED


def _add_ons_of(number: str) -> set[str]:
    return {need.value for need in CONTRACT[number].needs} & set(ADD_ONS)


def _rule_to_json(rule: RuleReport) -> dict[str, Any]:
    return {
        "number": rule.number,
        "found": str(rule.found),
        "note": rule.note,
        "assertions": rule.assertions,
        "seconds": round(rule.seconds, 3),
        "tests": [outcome_to_json(outcome) for outcome in rule.outcomes],
    }


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Return *outcome* as plain JSON."""
    return asdict(outcome) | {"status": str(outcome.status), "seconds": round(outcome.seconds, 3)}


def outcome_from_json(tree: Mapping[str, Any]) -> Outcome:
    """Return the outcome that *tree* stands for."""
    return Outcome(**{**tree, "status": Status(tree["status"])})


def report_from_json(tree: Mapping[str, Any]) -> Report:
    """Return the report that a JSON document holds."""
    run = Run(
        storage=tree["storage"],
        contract_version=tree["declared_contract_version"],
        offers=frozenset(map(Need, tree["offers"])),
        profile=tree["profile"],
        seed=tree["seed"],
        deviations=tree["deviations"],
    )
    rules = [
        RuleReport(
            number=rule["number"],
            found=Found(rule["found"]),
            note=rule["note"],
            outcomes=tuple(map(outcome_from_json, rule["tests"])),
        )
        for rule in tree["rules"]
    ]
    return Report(run=run, rules=tuple(rules))


def _numbers(contract_version: str) -> tuple[int, ...]:
    return tuple(map(int, contract_version.split(".")))
