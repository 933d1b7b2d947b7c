"""The example applications work as their pages say, over real connections between real processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
START_SECONDS = 60


def answers(url: str) -> bool:
    """Tell whether a server answers at *url*."""
    try:
        httpx2.get(url)
    except httpx2.TransportError:
        return False
    return True


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Run the FastAPI example: a server and a worker, two processes that share a file; give a client."""
    file = tmp_path_factory.mktemp("shop") / "shop.db"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "PANNIER_STORAGE": f"sqlite:///{file}"}
    commands = (
        [sys.executable, "-m", "uvicorn", "app:app", f"--port={port}", "--log-level=warning"],
        [sys.executable, "-m", "pannier.cli", "worker", "jobs:jobs"],
    )
    processes = [subprocess.Popen(command, cwd=EXAMPLES / "fastapi", env=environment) for command in commands]
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"http://127.0.0.1:{port}/docs"):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def test_an_order_is_answered_with_a_tracking_id_and_followed_to_its_end(shop: httpx2.Client) -> None:
    """The request returns at once; server-sent events tell of each step; the result is there at the end."""
    accepted = shop.post("/boxes", json={"items": ["cup"] * 40})
    box = f"/boxes/{accepted.json()['tracking_id']}"

    with shop.stream("GET", f"{box}/events") as stream:
        events = [line for line in stream.iter_lines() if line.startswith("data:")]

    assert accepted.status_code == 202
    assert any('"packed the cup"' in event for event in events)
    assert '"succeeded"' in events[-1]
    assert shop.get(box).json()["status"] == "succeeded"
    assert shop.get(f"{box}/result").json() == 40


def test_a_box_that_is_being_packed_is_cancelled(shop: httpx2.Client) -> None:
    """Before the end there is no result; after the cancel there never will be."""
    box = f"/boxes/{shop.post('/boxes', json={'items': ['vase'] * 1000}).json()['tracking_id']}"

    early = shop.get(f"{box}/result")
    cancelled = shop.delete(box)
    late = shop.get(f"{box}/result")

    assert (early.status_code, cancelled.json(), late.status_code) == (409, "cancelled", 410)


def test_an_unknown_box_is_not_found(shop: httpx2.Client) -> None:
    """No tracking id that was never given out is answered with anything else."""
    unknown = uuid4()

    asked = [shop.get(f"/boxes/{unknown}{what}") for what in ("", "/events", "/result")]

    assert [answer.status_code for answer in (*asked, shop.delete(f"/boxes/{unknown}"))] == [404] * 4
