"""Every page of the documentation does what it says."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from attrs import evolve

from tests.docs.blocks import blocks_of
from tests.docs.running import reading
from tests.docs.stand_ins import StandIns

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if not {"_build", "_make", "examples"} & set(page.relative_to(DOCS).parts)
)
NOT_RUN_AT_MOST = 1 / 20


@pytest.fixture(scope="session")
def stand_ins() -> Iterator[StandIns]:
    """Give the servers that pages name, started when needed."""
    with ExitStack() as exits:
        yield StandIns(exits)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(DOCS))) for page in PAGES])
def test_the_code_blocks_of_a_page_run(page: Path, tmp_path: Path, stand_ins: StandIns) -> None:
    """Somebody who types what the page shows, from top to bottom in an empty folder, sees what it says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    unplugged = "-p no:asyncio -p no:anyio"  # which are here for tests of the suite, and talk; a reader has neither
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1", "PYTEST_ADDOPTS": unplugged}
    own = uuid4().hex[:8]

    with reading(page, tmp_path, environment) as reader:
        for block in blocks_of(page):
            if not block.because:
                reader.follow(evolve(block, text=stand_ins.put_into(block.text, own)))


def test_few_blocks_are_left_unrun_and_each_says_why() -> None:
    """At most one code block in twenty is not run."""
    blocks = [block for page in PAGES for block in blocks_of(page)]
    unrun = [block for block in blocks if block.because]

    assert len(unrun) <= len(blocks) * NOT_RUN_AT_MOST, unrun
