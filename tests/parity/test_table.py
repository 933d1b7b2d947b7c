"""The table in docs/ and the tests here are the same set: nothing is claimed that no test shows."""

import ast
import re
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "explanation" / "fastendpoints.md"
HERE = Path(__file__).parent


@frozen
class Line:
    """One line of the table."""

    number: int
    theirs: str
    ours: str
    tests: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        """Whether pannier has it."""
        return not self.ours.startswith("Not here: ")


def lines() -> list[Line]:
    """Read the table."""
    found = re.findall(r"^\| F(\d+) \| (.+?) \| (.+?) \| (.*?) ?\|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        Line(int(number), theirs, ours, tuple(re.findall(r"`(.+?)`", tests))) for number, theirs, ours, tests in found
    ]


def functions_in(path: Path) -> set[str]:
    """Return the names of the tests in *path*."""
    return {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def parity_tests() -> set[str]:
    """Return the names of the tests beside this file."""
    return {name for path in HERE.glob("test_*.py") if path.name != "test_table.py" for name in functions_in(path)}


def test_the_lines_are_numbered_from_1_without_a_gap() -> None:
    """A line that was dropped would be missed."""
    assert sorted(line.number for line in lines()) == list(range(1, 81))


def test_a_line_is_shown_by_a_test_or_gives_its_reason() -> None:
    """One of the two, for each."""
    assert [line.number for line in lines() if line.is_here is not bool(line.tests)] == []


def test_the_tests_here_are_those_of_the_table() -> None:
    """Both ways."""
    named = {name for line in lines() for name in line.tests if "::" not in name}
    assert named == parity_tests()


def test_a_test_here_bears_the_number_of_its_line() -> None:
    """So that a failure says at once which behaviour of the original is gone."""
    wrong = [
        (line.number, name)
        for line in lines()
        for name in line.tests
        if "::" not in name and not name.startswith(f"test_f{line.number}_")
    ]
    assert wrong == []


@pytest.mark.parametrize("name", [name for line in lines() for name in line.tests if "::" in name])
def test_a_test_elsewhere_is_there(name: str) -> None:
    """Whoever renames it is told to rename it in the table."""
    path, _, function = name.partition("::")
    assert function in functions_in(ROOT / path)
