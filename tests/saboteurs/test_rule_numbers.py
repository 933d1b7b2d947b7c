"""The contract's rules stand in four places: protocol docstrings, tests, saboteurs, and the page in docs/."""

import re
from pathlib import Path

from pannier import claims, inspection, notices, purging, records, settlements, storage
from pannier_testing.rules import CONTRACT, collect_tests
from pannier_testing.saboteurs.plugin import collect_saboteurs

ROOT = Path(__file__).parents[2]

ASKED = {number for number, rule in CONTRACT.items() if not rule.is_held}


def numbers_in(text: str) -> set[str]:
    """Return every rule that *text* names; "R60-R63" names four."""
    found = set()
    for first, last in re.findall(r"\bR(\d+)(?:[-–]R(\d+))?", text):
        found |= {f"R{number}" for number in range(int(first), int(last or first) + 1)}
    return found


def source_of(module: object) -> str:
    return Path(str(getattr(module, "__file__", None))).read_text("utf-8")


def test_only_a_rule_of_what_does_not_exist_yet_is_held() -> None:
    """Pausing is to come; whatever else the contract says is asked of storages."""
    assert set(CONTRACT) - ASKED == {"R28"}


def test_every_rule_stands_in_the_contract_s_docstrings() -> None:
    """The docstrings of the protocol and of its values name every rule that is asked of a storage, and no other."""
    modules = (storage, records, claims, settlements, purging, inspection, notices)
    named = set().union(*(numbers_in(source_of(module)) for module in modules))

    assert named == ASKED


def test_every_rule_has_a_test() -> None:
    """Every rule that is asked is tried, and no other."""
    assert {test.rule.number for test in collect_tests()} == ASKED


def test_every_rule_has_a_saboteur() -> None:
    """No rule is asked that nothing was seen to break; angels break none."""
    assert {saboteur.breaks for saboteur in collect_saboteurs()} == {*ASKED, None}


def test_every_rule_stands_on_the_contract_s_page() -> None:
    """The page in docs/ has each rule once, in the order of their numbers, the held one included."""
    page = (ROOT / "docs" / "reference" / "rules.md").read_text("utf-8")

    assert re.findall(r"^### (R\d+)$", page, flags=re.MULTILINE) == list(CONTRACT)
