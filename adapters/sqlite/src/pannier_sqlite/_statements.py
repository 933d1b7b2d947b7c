"""The SQL statements, one a file in sql/, read once."""

from functools import cache
from importlib.resources import files

from pannier_sqlite import _rows


@cache
def statement(name: str) -> str:
    """Return the statement sql/*name*.sql, with the lists of columns and parameters filled in."""
    text = files("pannier_sqlite").joinpath("sql", f"{name}.sql").read_text("utf-8")
    return text.replace("{record}", _rows.RECORD).replace("{claimed}", _rows.CLAIMED).replace("{pairs}", _rows.PAIRS)
