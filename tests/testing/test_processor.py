"""How busy a process is, whatever else the machine does."""

import asyncio
import time

from pannier_testing.processor import share_of_a_processor


async def test_waiting_takes_next_to_nothing() -> None:
    """A loop that sleeps is not busy."""
    assert await share_of_a_processor(0.3) < 0.1


async def test_a_loop_without_a_pause_is_busy() -> None:
    """One that asks again and again is, by what R113 allows, however little of the processor it gets."""
    until = time.monotonic() + 0.5

    async def ask() -> None:
        while time.monotonic() < until:  # noqa: ASYNC110  # the loop without a pause
            await asyncio.sleep(0)

    asking = asyncio.ensure_future(ask())

    assert await share_of_a_processor(0.3) > 0.1
    await asking
