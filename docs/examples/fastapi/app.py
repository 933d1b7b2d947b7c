"""The shop's HTTP interface: an endpoint queues a job and answers with its tracking id; others follow it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from fastapi.sse import EventSourceResponse
from jobs import PackBox, jobs
from pydantic import BaseModel

from pannier import Cancellation, JobFailedError, JobNotSucceededError, JobProgress, JobStatus


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open the storage for as long as the application runs. Workers are processes of their own."""
    async with jobs:
        yield


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    """What a customer sends."""

    items: list[str]


class Queued(BaseModel):
    """What a customer gets at once."""

    tracking_id: UUID


class Progress(BaseModel):
    """How far a job is."""

    status: JobStatus
    current_step: int
    total_steps: int
    current_status: str | None

    @classmethod
    def of(cls, progress: JobProgress) -> "Progress":
        """Return *progress* as it is sent."""
        return cls(
            status=progress.status,
            current_step=progress.current_step,
            total_steps=progress.total_steps,
            current_status=progress.current_status,
        )


@app.post("/boxes", status_code=202)
async def pack(order: Order) -> Queued:
    """Queue the packing of an order."""
    return Queued(tracking_id=await jobs.queue_job(PackBox(order.items)))


@app.get("/boxes/{tracking_id}")
async def progress(tracking_id: UUID) -> Progress:
    """Tell how far a box is."""
    found = await jobs.tracker(PackBox).get_job_progress(tracking_id)
    if found is None:
        raise HTTPException(404, "no such box")
    return Progress.of(found)


@app.get("/boxes/{tracking_id}/events", response_class=EventSourceResponse)
async def events(tracking_id: UUID, _: Annotated[Progress, Depends(progress)]) -> AsyncIterator[Progress]:
    """Tell of each step as it is made, until the box is packed. An unknown box is a 404 before the stream begins."""
    async for step in jobs.tracker(PackBox).follow(tracking_id):
        yield Progress.of(step)


@app.get("/boxes/{tracking_id}/result")
async def result(tracking_id: UUID) -> int:
    """Return how many items went into a box, once it is packed."""
    found = await progress(tracking_id)
    if not found.status.is_complete:
        raise HTTPException(409, "the box is not packed yet")
    try:
        return await jobs.tracker(PackBox).wait_for_result(tracking_id)
    except JobFailedError as error:
        raise HTTPException(500, "the box could not be packed") from error
    except JobNotSucceededError as error:
        raise HTTPException(410, str(error)) from error


@app.delete("/boxes/{tracking_id}")
async def cancel(tracking_id: UUID) -> Cancellation:
    """Stop the packing of a box, waiting or under way."""
    answer = await jobs.cancel_job(tracking_id)
    if answer is Cancellation.NOT_FOUND:
        raise HTTPException(404, "no such box")
    return answer
