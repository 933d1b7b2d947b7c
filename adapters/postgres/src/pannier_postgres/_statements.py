"""The SQL statements, one a file in sql/, read once."""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from pannier_postgres._rows import LISTS
from pannier_postgres.settings import Notify, Settings

_NAME: Final = re.compile(r"\{(\w+)\}")

_FRAGMENTS: Final = {
    # Up to 20 finished jobs are named; past that it says that some have.
    "tell_finished": """
    SELECT pg_notify(
        {channel},
        'finished:' || CASE WHEN count(*) <= 20 THEN string_agg(tracking_id::text, ',') ELSE '' END || ':' || queue_id
    )
    FROM settled
    WHERE {channel} IS NOT NULL
    GROUP BY queue_id
""",
    # What jobs_status_fits says of a running job, and not status = 'running': that would let the planner go through the
    # index of all leases for a few of them.
    "is_running": "jobs.finished_at IS NULL AND jobs.worker_id IS NOT NULL",
    "errors_and_given": """
        CASE
            WHEN jsonb_typeof(errors) IS DISTINCT FROM 'array' THEN jsonb_build_array(given.error::jsonb)
            WHEN jsonb_array_length(errors) < 10 THEN errors || given.error::jsonb
            ELSE (errors - 0) || given.error::jsonb
        END""",
}
"""What several statements have in common. Announcements are made once a transaction, queue and kind."""


def statements_for(settings: Settings) -> Mapping[str, str]:
    """Return the statements by name, for the schema of *settings*."""
    return _statements(settings.schema, None if settings.notify is Notify.OFF else settings.channel)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the SQL *text* with *values* in place of the names in braces."""
    return _NAME.sub(lambda found: values[found[1]], text)


def quoted(name: str) -> str:
    """Return *name* as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str | None) -> str:
    return "NULL::text" if text is None else "'" + text.replace("'", "''") + "'::text"


@lru_cache(maxsize=16)
def _statements(schema: str, channel: str | None) -> Mapping[str, str]:
    values = {**LISTS, "schema": quoted(schema), "channel": _literal(channel)}
    fragments = {name: filled(fragment, values) for name, fragment in _FRAGMENTS.items()}
    return MappingProxyType(
        {
            path.name.removesuffix(".sql"): filled(path.read_text("utf-8"), {**values, **fragments})
            for path in files("pannier_postgres").joinpath("sql").iterdir()
        }
    )
