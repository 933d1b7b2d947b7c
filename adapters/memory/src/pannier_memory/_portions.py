"""Portions: how long work is cut up, so that the event loop gets its turn (R92)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

PORTION: Final = 1_000
"""So many jobs at a time: 2 to 5 ms."""

T = TypeVar("T")


async def in_portions(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """Give *items* a portion at a time, with a turn of the event loop between two of them."""
    for start in range(0, len(items), PORTION):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + PORTION]
