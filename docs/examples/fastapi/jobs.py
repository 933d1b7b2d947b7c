"""What the shop does in the background."""

import asyncio
import os

from attrs import frozen

from pannier import Command, JobContext, JobQueues

jobs = JobQueues(os.environ.get("PANNIER_STORAGE", "sqlite:///shop.db"))


@frozen
class PackBox(Command[int]):
    """Pack *items* into one box; the result is how many went in."""

    items: list[str]


@jobs.handler()
async def pack_box(command: PackBox, job: JobContext[int]) -> int:
    """Pack one item after another."""
    for packed, item in enumerate(command.items, start=1):
        await asyncio.sleep(0.05)
        await job.report(current_step=packed, total_steps=len(command.items), status=f"packed the {item}")
    return len(command.items)
