"""Durations, as a person types and reads them."""

import re
from datetime import timedelta
from typing import Final

import typer

UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_PATTERN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def parse_duration(text: str) -> timedelta:
    """
    Read "250ms", "30s", "10m", "4h" or "7d"; a number without a unit is seconds.

    Raises:
        BadParameter: It is none of these.
    """
    match = _PATTERN.fullmatch(text.strip().lower())
    try:
        if match is not None:
            return float(match[1]) * UNITS[match[2] or "s"]
    except OverflowError:
        pass
    raise typer.BadParameter(f"{text!r} is no duration such as 250ms, 30s, 10m, 4h or 7d")


def spell(span: timedelta) -> str:
    """Word *span* with one unit, coarse enough to be read at a glance."""
    seconds = abs(span.total_seconds())
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds / size < (120 if unit != "h" else 48):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
