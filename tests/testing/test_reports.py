"""Reports: the verdict, the badge, the JSON document and the table of several."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pannier_testing.render import badge, matrix, table_lines
from pannier_testing.report import Report, Run, Verdict, make_report, report_from_json
from pannier_testing.rules import CONTRACT, Need, collect_tests
from pannier_testing.runner import Outcome, Status

TESTS = collect_tests()

EMBEDDED = frozenset({Need.RESULTS, Need.INSPECT, Need.NOTIFY, Need.EMBEDDED})


def report_of(
    storage: str,
    ends: Mapping[str, Status],
    *,
    offers: frozenset[Need] = EMBEDDED,
    deviations: Mapping[str, str] | None = None,
) -> Report:
    """Return the report of a run in which all tests passed but those of the rules in *ends*."""
    run = Run(
        storage=storage,
        contract_version="1.0",
        offers=offers,
        profile="quick",
        seed=7,
        deviations=deviations or {},
    )
    found = []
    for test in TESTS:
        status = Status.PASSED if test.needs <= offers else Status.NOT_OFFERED
        ending = ends.get(test.rule.number, status)
        message = "" if ending is Status.PASSED else "because of a test"
        found.append(Outcome(rule=test.rule.number, test=test.name, status=ending, message=message, assertions=2))
    return make_report(run, TESTS, found)


def cells(table: str, number: str) -> list[str]:
    """Return the cells of a rule's row in a Markdown table, but for the rule itself."""
    (row,) = [line for line in table.splitlines() if line.startswith((f"| {number}: ", f"| {number} "))]
    return [cell.strip() for cell in row.replace("\\|", "").strip("| ").split(" | ")][1:]


def test_a_storage_that_passes_all_is_conformant() -> None:
    """The line names the contract's version, the level and the add-ons, sorted; the badge is green."""
    report = report_of("memory://{namespace}", {})

    assert report.line == "conformant 1.0 core + inspect, notify, results"
    assert badge(report) == {
        "schemaVersion": 1,
        "label": "pannier storage contract",
        "message": "conformant 1.0 core + inspect, notify, results",
        "color": "brightgreen",
    }


@pytest.mark.parametrize(
    ("status", "verdict", "colour"),
    [
        (Status.FAILED, Verdict.NON_CONFORMANT, "red"),
        (Status.ERROR, Verdict.NON_CONFORMANT, "red"),
        (Status.BLOCKED, Verdict.INCOMPLETE, "yellow"),
        (Status.INCONCLUSIVE, Verdict.INCOMPLETE, "yellow"),
    ],
)
def test_the_badge_tells_a_broken_rule_from_an_unknown_one(status: Status, verdict: Verdict, colour: str) -> None:
    """What could not be tried is yellow, what is broken is red, and neither names what else is kept."""
    told = badge(report_of("toy://{namespace}", {"R30": status}))

    assert (told["message"], told["color"]) == (str(verdict), colour)


def test_a_fault_that_is_declared_in_an_add_on_costs_the_add_on_only() -> None:
    """The line leaves the add-on out; in a rule that every storage must keep, the same costs the verdict."""
    of_an_add_on = report_of("toy://", {"R98": Status.FAILED}, deviations={"R98": "offset paging"})
    of_the_core = report_of("toy://", {"R30": Status.FAILED}, deviations={"R30": "one task only"})

    assert of_an_add_on.line == "conformant 1.0 core + notify, results"
    assert of_the_core.line == "non-conformant"


def test_a_declared_fault_that_is_mended_is_a_failure() -> None:
    """Deviations are strict."""
    report = report_of("toy://", {}, deviations={"R98": "offset paging"})

    assert [rule.found for rule in report.rules if rule.number == "R98"] == ["stale deviation"]
    assert report.line == "non-conformant"


def test_a_report_comes_back_from_json() -> None:
    """What was written is read as the same report, and has what its schema requires."""
    report = report_of("toy://{namespace}", {"R30": Status.FAILED, "R98": Status.BLOCKED})
    document: dict[str, Any] = json.loads(json.dumps(report.to_json()))
    schema = json.loads((Path(__file__).parents[2] / "testing/src/pannier_testing/report.schema.json").read_text())

    assert report_from_json(document) == report
    assert sorted(document) == sorted(schema["required"])
    assert sorted(document["rules"][0]) == sorted(schema["properties"]["rules"]["items"]["required"])


def test_the_matrix_has_a_column_for_each_report_and_a_row_for_each_rule() -> None:
    """Two storages beside each other: verdicts first, then a sign each; a rule whose text has a bar breaks no row."""
    good = report_of("memory://{namespace}", {})
    bad = report_of("toy://{namespace}", {"R30": Status.FAILED, "R92": Status.BLOCKED}, offers=frozenset())
    table = matrix([good, bad])
    rows = [line for line in table.splitlines() if line.startswith("|")]

    assert rows[0] == "| rule | memory://{namespace} | toy://{namespace} |"
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}
    assert cells(table, "verdict") == [good.line, "non-conformant"]
    assert len(rows) == 3 + len(CONTRACT)
    assert (cells(table, "R30"), cells(table, "R92")) == (["✓", "✗"], ["✓", "b"])
    assert (cells(table, "R98"), cells(table, "R28")) == (["✓", "-"], ["-", "-"])
    assert table.splitlines()[-1].startswith("✓ passed, ✗ failed")


def test_the_table_says_why_a_rule_did_not_pass() -> None:
    """The terminal's table names the failing test; the last line is the verdict."""
    report = report_of("toy://{namespace}", {"R30": Status.FAILED})
    lines = list(table_lines(report))
    names = [test.name for test in TESTS if test.rule.number == "R30"]

    assert [line for line in lines if line.startswith("✗ R30 failed") and names[0] in line]
    assert lines[-1] == "non-conformant"


def test_reports_are_compared_on_the_command_line(tmp_path: Path) -> None:
    """`pannier certify --compare` prints the table of files, and tries no storage."""
    for name, ends in (("a", {}), ("b", {"R30": Status.FAILED})):
        document = report_of(f"{name}://{{namespace}}", ends).to_json()
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    command = [str(Path(sys.executable).with_name("pannier")), "certify", "--compare", "a.json", "--compare", "b.json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("| rule | a://{namespace} | b://{namespace} |")
    assert cells(ran.stdout, "R30") == ["✓", "✗"]


def test_a_file_that_is_not_announced_is_not_dropped(tmp_path: Path) -> None:
    """`--compare a.json b.json` compares two files for its reader, so it must not print one."""
    command = [str(Path(sys.executable).with_name("pannier")), "certify", "--compare", "a.json", "b.json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 2
    assert "--compare 'b.json'" in ran.stderr
