"""Words reports: a table for the terminal, a badge, a Markdown matrix of several storages."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pannier_testing.report import Found, Report, RuleReport, Verdict
from pannier_testing.rules import CONTRACT, read_sections

SIGNS = {
    Found.PASSED: "✓",
    Found.FAILED: "✗",
    Found.DEVIATES: "d",
    Found.ADVISORY: "a",
    Found.STALE_DEVIATION: "✗",
    Found.BLOCKED: "b",
    Found.INCONCLUSIVE: "?",
    Found.NOT_RUN: "·",
    Found.NOT_OFFERED: "-",
}

COLOURS = {Verdict.CONFORMANT: "brightgreen", Verdict.INCOMPLETE: "yellow", Verdict.NON_CONFORMANT: "red"}

PROOF = (
    "Proved by running: what is above, on this machine. kill -9 shows what survives the death of a process, not the "
    "loss of power; races are driven by seeds, so another seed looks at other orders."
)


def table_lines(report: Report) -> Iterator[str]:
    """
    Word *report* for a terminal.

    Gives a line a section, then every rule that did not pass or is not offered, then what was chosen and the verdict.
    """
    by_section: dict[str, list[RuleReport]] = {letter: [] for letter in read_sections()}
    for rule in report.rules:
        by_section[CONTRACT[rule.number].section].append(rule)
    width = max(map(len, read_sections().values()))
    for letter, title in read_sections().items():
        rules = by_section[letter]
        assertions = sum(rule.assertions for rule in rules)
        seconds = sum(rule.seconds for rule in rules)
        signs = " ".join(SIGNS[rule.found] + rule.number for rule in rules)
        yield f"{letter}  {title:<{width}}  {assertions:>7} checks {seconds:>6.1f} s  {signs}"
    yield ""
    reasons: dict[tuple[Found, str], list[str]] = {}
    for rule in report.rules:
        if rule.found is not Found.PASSED:
            reasons.setdefault((rule.found, _because(rule)), []).append(rule.number)
    for (found, reason), numbers in reasons.items():
        yield f"{SIGNS[found]} {' '.join(numbers)} {found}{reason}"
    sizes = sorted({f"{name} {n}" for rule in report.rules for o in rule.outcomes for name, n in o.sizes.items()})
    yield ""
    yield f"sizes: {', '.join(sizes) or 'as written'}"
    counts = Counter(rule.found for rule in report.rules)
    yield "rules: " + ", ".join(f"{counts[found]} {found}" for found in Found if counts[found])
    yield PROOF
    yield f"{report.run.storage}, profile {report.run.profile}, seed {report.run.seed}"
    yield report.line


def badge(report: Report) -> dict[str, Any]:
    """Return *report* as a shields.io endpoint badge."""
    return {
        "schemaVersion": 1,
        "label": "pannier storage contract",
        "message": report.line,
        "color": COLOURS[report.verdict],
    }


def matrix(reports: Sequence[Report]) -> str:
    """Return a Markdown table: a row a rule, a column a report."""
    head = ["rule", *(report.run.storage for report in reports)]
    lines = [_row(head), _row(["---"] * len(head)), _row(["verdict", *(report.line for report in reports)])]
    columns = [{rule.number: rule.found for rule in report.rules} for report in reports]
    for number, rule in CONTRACT.items():
        found = [column.get(number, Found.NOT_RUN) for column in columns]
        text = rule.text.replace("|", "\\|")
        lines.append(_row([f"{number}: {text}", *(SIGNS[each] for each in found)]))
    legend = ", ".join(f"{sign} {found}" for found, sign in SIGNS.items() if found is not Found.STALE_DEVIATION)
    return "\n".join([*lines, "", legend, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _because(rule: RuleReport) -> str:
    reasons = [rule.note] if rule.note else []
    reasons += [o.message.strip().splitlines()[-1].strip() for o in rule.outcomes if o.message and not rule.note]
    if rule.found is Found.FAILED:
        reasons = [f"{outcome.test} ({outcome.status})" for outcome in rule.outcomes if outcome.message]
    return f": {'; '.join(dict.fromkeys(reasons))}" if reasons else ""
