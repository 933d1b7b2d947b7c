"""The reference names what there is."""

import re
from pathlib import Path
from types import FunctionType

import attrs
import pytest

import pannier
import pannier.errors
import pannier.hookspecs
import pannier.records
import pannier_testing
import pannier_testing.plugin
import pannier_testing.sync
from pannier import QueueOptions, WorkerOptions

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
WHOLE_MODULES = (pannier.errors, pannier.records, pannier.hookspecs)


def test_every_public_name_has_its_place_in_the_reference() -> None:
    """What `pannier` exports stands in the API's page, or is defined in a module that is documented whole."""
    documented = set(re.findall(r"auto\w+:: pannier\.(\w+)$", (REFERENCE / "api.md").read_text(), re.MULTILINE))
    whole = {name for module in WHOLE_MODULES for name in vars(module)}

    assert set(pannier.__all__) - documented - whole == set()


def test_every_name_for_tests_has_its_place_in_the_reference() -> None:
    """What `pannier_testing` exports, its namesakes for code without an event loop, and the fixtures of its plugin."""
    page = (REFERENCE / "testing-api.md").read_text()
    documented = set(re.findall(r"auto\w+:: pannier_testing\.(\w+)$", page, re.MULTILINE))
    blocking = {name for name, value in vars(pannier_testing.sync).items() if isinstance(value, FunctionType)}

    assert documented == set(pannier_testing.__all__)
    assert [name for name in (*blocking, *pannier_testing.plugin.__all__) if f"`{name}`" not in page] == []


def test_every_error_has_its_cause_and_cure() -> None:
    """The page of errors has one row for each class, and for no other, with nothing left out."""
    rows = re.findall(r"^\| `(\w+Error)` \| \S.* \| \S.* \|$", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    classes = [name for name, value in vars(pannier.errors).items() if isinstance(value, type)]

    assert sorted([*rows, "PannierError"]) == sorted(name for name in classes if name.endswith("Error"))


@pytest.mark.parametrize(("section", "options"), [("Of a queue", QueueOptions), ("Of a worker", WorkerOptions)])
def test_every_option_is_documented(section: str, options: type) -> None:
    """The table has one row for each option, and for no other."""
    [text] = re.findall(rf"^## {section}$(.*?)^## ", (REFERENCE / "options.md").read_text(), re.MULTILINE | re.DOTALL)

    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [field.name for field in attrs.fields(options)]
