"""
What pytest loads of pannier-testing: the options and reports of the conformance suite, and fixtures for applications.

It adds options and fixtures and nothing else until a test of the suite runs: other tests are left as they are.
Importing this module is cheap; the suite is imported when it is collected.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier_testing.applications.fixtures import pannier_application, pannier_clock, pannier_jobs

if TYPE_CHECKING:
    from pannier.plugins import Plugins
    from pannier_testing.report import Report, Run
    from pannier_testing.rules import RuleTest
    from pannier_testing.runner import Settings
    from pannier_testing.storage_conformance import StorageConformance
    from pannier_testing.subject import Subject
    from pannier_testing.trial import Measured

__all__ = ["pannier_application", "pannier_clock", "pannier_jobs"]

PROPERTY = "pannier"
"""The name under which a test's outcome travels in its report, from xdist's workers too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("pannier", "pannier: the conformance of a storage")
    group.addoption("--pannier-storage", metavar="URL", help="the storage; with {tmp} or {namespace} in its URL")
    group.addoption(
        "--pannier-adapter",
        action="append",
        default=[],
        metavar="PATH",
        help="import path of an adapter's plugin that is not installed as an entry point",
    )
    group.addoption("--pannier-profile", choices=["quick", "full", "soak"], default="quick", help="how thoroughly")
    group.addoption("--pannier-seed", type=int, metavar="N", help="decides everything random; repeats a run")
    group.addoption("--pannier-rule", action="append", default=[], metavar="RN", help="only this rule; repeatable")
    group.addoption("--pannier-expect", metavar="VERDICT", help="fail unless this is the verdict, to the letter")
    group.addoption("--pannier-json", type=Path, metavar="FILE", help="write the report as JSON")
    group.addoption("--pannier-badge", type=Path, metavar="FILE", help="write the verdict as a shields.io badge")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed, once for all processes of the run."""
    if config.option.pannier_seed is None:
        config.option.pannier_seed = secrets.randbelow(1_000_000)  # not random: tests may have seeded that
    config.pluginmanager.register(Suite(config), "pannier-suite")


class Suite:
    """The conformance suite within one pytest session: runs rules, and gathers what they found."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._measured: dict[str, Measured] = {}
        self._unusable: dict[str, str] = {}
        self._plugins: dict[tuple[str, ...], Plugins] = {}
        self._runs: dict[str, dict[str, Any]] = {}
        self._outcomes: dict[str, list[dict[str, Any]]] = {}

    # Running, in whichever process runs tests.

    def hold(self, conformance: "StorageConformance", rule_test: "RuleTest", node: pytest.Item) -> None:
        """Run one test on the storage of a test class, and report as pytest does."""
        from pannier_testing.report import is_newer, outcome_to_json
        from pannier_testing.runner import Status, run_test

        subject, settings = self._subject(conformance, node), self._settings()
        measured = self._measure(subject)
        outcome = run_test(rule_test, subject, measured, settings)
        about = {
            "storage": subject.label,
            "contract_version": measured.contract_version,
            "offers": sorted(need.value for need in measured.offers),  # xdist takes no enum
            "deviations": dict(conformance.deviations),
        }
        node.user_properties.append((PROPERTY, {"run": about, "outcome": outcome_to_json(outcome)}))
        if outcome.status in (Status.FAILED, Status.ERROR):
            number = outcome.rule
            if number in conformance.deviations:
                pytest.xfail(f"declared: {conformance.deviations[number]}")
            if is_newer(rule_test.rule, measured.contract_version):
                pytest.xfail(f"advisory: {number} is newer than contract {measured.contract_version}")
            pytest.fail(outcome.message, pytrace=False)
        if outcome.status is not Status.PASSED:
            pytest.skip(f"{outcome.status}: {outcome.message}")

    def _settings(self) -> "Settings":
        from pannier_testing.runner import Settings
        from pannier_testing.trial import Profile

        return Settings(profile=Profile(self._config.option.pannier_profile), seed=self._config.option.pannier_seed)

    def _subject(self, conformance: "StorageConformance", node: pytest.Item) -> "Subject":
        from pannier_testing.storage_conformance import StorageConformance
        from pannier_testing.subject import import_path

        kind = type(conformance)
        if kind.storage_url is StorageConformance.storage_url:
            return self._subject_of_option()
        path = node.nodeid.rpartition("::")[0]
        adapters = () if kind.adapter is None else (import_path(kind.adapter),)
        paths = (*adapters, *self._config.option.pannier_adapter)
        return _subject_of_class(conformance, kind, path, paths, self._plugins_with(paths))

    def _plugins_with(self, adapters: tuple[str, ...]) -> "Plugins":
        """Return the installed plugins and *adapters*: looked for once, not for each of hundreds of tests."""
        from pannier_testing.subject import load_plugins

        if adapters not in self._plugins:
            self._plugins[adapters] = load_plugins(adapters)
        return self._plugins[adapters]

    def _subject_of_option(self) -> "Subject":
        from pannier.urls import StorageUrl
        from pannier_testing.subject import Subject

        template = self._config.option.pannier_storage
        if template is None:
            raise pytest.UsageError("say which storage: --pannier-storage 'sqlite:///{tmp}/jobs.db'")
        label = str(StorageUrl(template))
        adapters = tuple(self._config.option.pannier_adapter)
        return Subject(
            label=label,
            url_for=lambda place: place.fill(template),
            adapters=adapters,
            plugins=self._plugins_with(adapters),
            repeat=lambda number, seed: f"pannier certify '{label}' --rule {number} --seed {seed}",
        )

    def _measure(self, subject: "Subject") -> "Measured":
        from pannier_testing.runner import measure

        if subject.label in self._unusable:
            pytest.fail(self._unusable[subject.label], pytrace=False)
        if subject.label not in self._measured:
            try:
                self._measured[subject.label] = measure(subject)
            except Exception as error:
                said = f"{type(error).__qualname__}: {error}"
                self._unusable[subject.label] = f"not tried: {subject.label} could not be used at all ({said})"
                raise
        return self._measured[subject.label]

    # Reporting, in the process that talks to the user.

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test of the suite found."""
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call" and isinstance(value, Mapping):
                label = value["run"]["storage"]
                self._runs[label] = value["run"]
                self._outcomes.setdefault(label, []).append(value["outcome"])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files that were asked for; a run of the whole suite that is not conformant is no success."""
        if hasattr(self._config, "workerinput"):
            return
        for report in self._reports():
            _write(self._config.option.pannier_json, report.to_json(), report, len(self._runs))
            self._write_badge(report)
            if session.exitstatus == 0 and not self._is_as_asked(report):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of each storage."""
        from pannier_testing.render import table_lines

        for report in self._reports():
            terminalreporter.section("pannier's storage contract")
            for line in table_lines(report):
                terminalreporter.write_line(line)
            if not self._is_as_asked(report) and self._config.option.pannier_expect:
                terminalreporter.write_line(f"expected: {self._config.option.pannier_expect}", red=True)

    def _is_as_asked(self, report: "Report") -> bool:
        """Whether no deviation was declared in vain, and the verdict is as expected, or, of a whole run, a good one."""
        from pannier_testing.report import Found, Verdict

        option = self._config.option
        if any(rule.found is Found.STALE_DEVIATION for rule in report.rules):
            return False
        if option.pannier_expect:
            return report.line == str(option.pannier_expect)
        return bool(option.pannier_rule) or not option.pannier_storage or report.verdict is Verdict.CONFORMANT

    def _reports(self) -> "list[Report]":
        if not self._runs:
            return []
        from pannier_testing.report import make_report, outcome_from_json
        from pannier_testing.rules import collect_tests

        return [
            make_report(self._run(label), collect_tests(), map(outcome_from_json, self._outcomes[label]))
            for label in self._runs
        ]

    def _run(self, label: str) -> "Run":
        from pannier_testing.report import Run
        from pannier_testing.rules import Need

        about = self._runs[label]
        return Run(
            storage=label,
            contract_version=about["contract_version"],
            offers=frozenset(map(Need, about["offers"])),
            profile=self._config.option.pannier_profile,
            seed=self._config.option.pannier_seed,
            deviations=about["deviations"],
        )

    def _write_badge(self, report: "Report") -> None:
        from pannier_testing.render import badge

        _write(self._config.option.pannier_badge, badge(report), report, len(self._runs))


def _subject_of_class(
    conformance: "StorageConformance",
    kind: "type[StorageConformance]",
    path: str,
    adapters: tuple[str, ...],
    plugins: "Plugins",
) -> "Subject":
    from pannier_testing.storage_conformance import StorageConformance
    from pannier_testing.subject import Subject

    return Subject(
        label=path,
        url_for=conformance.storage_url,
        adapters=adapters,
        plugins=plugins,
        damage=None if kind.damage is StorageConformance.damage else conformance.damage,
        store_size=None if kind.store_size is StorageConformance.store_size else conformance.store_size,
        earlier_stores=conformance.earlier_stores(),
        make_newer=None if kind.make_newer is StorageConformance.make_newer else conformance.make_newer,
        unknown_fields=None if kind.unknown_fields is StorageConformance.unknown_fields else conformance.unknown_fields,
        repeat=lambda number, seed: f"pytest {path} --pannier-rule {number} --pannier-seed {seed}",
    )


def _write(path: Path | None, tree: dict[str, Any], report: "Report", count: int) -> None:
    """Write *tree*; where several storages were tested, each gets a file of its own."""
    if path is None:
        return
    if count > 1:
        name = "".join(c if c.isalnum() else "-" for c in report.run.storage).strip("-")
        path = path.with_stem(f"{path.stem}-{name}")
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", "utf-8")
