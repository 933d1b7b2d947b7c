"""
Pages and pictures that are made from the code, or from records of runs: `python -m docs._make` makes them anew.

They are kept in the repository, so that a reader of the repository sees them, and a test holds them against what they
are made from.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs._make.reliability import reliability_page
from docs._make.rules import rules_page
from docs._make.states import states_picture

DOCS: Final = Path(__file__).parents[1]

MADE: Final[Mapping[Path, Callable[[], str]]] = {
    DOCS / "reference" / "rules.md": rules_page,
    DOCS / "explanation" / "states.svg": states_picture,
    DOCS.parent / "RELIABILITY.md": reliability_page,
}
"""What is made, and by what."""
