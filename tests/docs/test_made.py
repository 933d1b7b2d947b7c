"""What is made from the code, and from records of runs, is what they make."""

from pathlib import Path

import pytest
from docs._make import DOCS, MADE


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(DOCS.parent))) for path in MADE])
def test_what_is_made_from_the_code_is_up_to_date(path: Path) -> None:
    """`python -m docs._make` would change nothing."""
    assert path.read_text() == MADE[path]()
