"""The reference names what there is."""

import re
from pathlib import Path

import pannier
import pannier.errors
import pannier.hookspecs
import pannier.records

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
WHOLE_MODULES = (pannier.errors, pannier.records, pannier.hookspecs)


def test_every_public_name_has_its_place_in_the_reference() -> None:
    """What `pannier` exports stands in the API's page, or is defined in a module that is documented whole."""
    documented = set(re.findall(r"auto\w+:: pannier\.(\w+)$", (REFERENCE / "api.md").read_text(), re.MULTILINE))
    whole = {name for module in WHOLE_MODULES for name in vars(module)}

    assert set(pannier.__all__) - documented - whole == set()
