"""A plot of medians as SVG: a group of bars for each case, on a logarithmic scale."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

from benchmarks.report import Summary
from benchmarks.roster import BARE, OURS

WIDTH: Final = 760
LEFT: Final = 150
RIGHT: Final = 60
BAR: Final = 15
GAP: Final = 34
COLOURS: Final = {OURS: "#b5532a", BARE: "#8a8f98"}
OTHERS: Final = "#4c7aa8"


def plot(title: str, found: Sequence[Summary], *, unit: str = "jobs/s") -> str:
    """Return a picture of those medians that are in *unit*, with their spread as a thin line."""
    groups: dict[str, list[Summary]] = {}
    for summary in found:
        if summary.unit == unit:
            groups.setdefault(str(summary.case), []).append(summary)
    shown = [row for rows in groups.values() for row in rows]
    scale = _Scale(min(row.low for row in shown), max(row.high for row in shown))
    height = 60 + sum(GAP + BAR * len(rows) for rows in groups.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<text x="8" y="18" font-size="14">{escape(title)} ({escape(unit)})</text>',
        *scale.lines(top=30, bottom=height - 22),
    ]
    y = 30
    for name, rows in groups.items():
        parts.append(f'<text x="8" y="{y + 22}" font-weight="bold">{escape(name)}</text>')
        y += GAP - 6
        for row in rows:
            parts += _bar(row, scale, y)
            y += BAR
        y += 6
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """From values to places, in powers of ten."""

    def __init__(self, low: float, high: float) -> None:
        self._first = floor(log10(low))
        self._last = ceil(log10(high))

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (log10(value) - self._first) / max(1, self._last - self._first)

    def lines(self, *, top: int, bottom: int) -> list[str]:
        parts = []
        for power in range(self._first, self._last + 1):
            x = self.x(10.0**power)
            parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="currentColor" stroke-opacity="0.15"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{10**power:,}</text>')
        return parts


def _bar(row: Summary, scale: _Scale, y: int) -> list[str]:
    middle = y + BAR / 2
    return [
        f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(row.contestant)}</text>',
        f'<rect x="{LEFT}" y="{y + 1}" width="{max(1.0, scale.x(row.median) - LEFT):.1f}" height="{BAR - 3}" '
        f'fill="{COLOURS.get(row.contestant, OTHERS)}"/>',
        f'<path d="M{scale.x(row.low):.1f} {middle}H{scale.x(row.high):.1f}" stroke="currentColor"/>',
        f'<text x="{scale.x(row.high) + 4:.1f}" y="{y + 11}">{row.median:,.0f}</text>',
    ]
