"""RELIABILITY.md, made from the records in `reliability/`, each of which a run of the torture rig has written."""

from pathlib import Path
from typing import Final

from pannier_testing.torture.record import read_records
from pannier_testing.torture.report import page

RECORDS: Final = Path(__file__).parents[2] / "reliability"


def reliability_page() -> str:
    """Return the page."""
    return page(read_records(RECORDS))
