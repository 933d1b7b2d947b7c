"""What runs the pages notices a page that is wrong."""

import os
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.docs.running import PageError, reading


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("```console\n$ false\n```\n", id="a command that fails"),
        pytest.param("```console\n$ echo one\ntwo\n```\n", id="a command that prints something else"),
        pytest.param("```console\n$ no-such-program\n```\n", id="a command that does not exist"),
        pytest.param('```console\n$ pip install "pannier[wings]"\n```\n', id="an extra that does not exist"),
        pytest.param("```python\nprint(1)\n```\n\n```output\n2\n```\n", id="Python that prints something else"),
        pytest.param("```cobol\nSTOP RUN.\n```\n", id="a language that nothing runs"),
        pytest.param("    make world\n", id="a block of no language"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(page: str, tmp_path: Path) -> None:
    """A reader who does what the page says sees something else than it says."""
    file = tmp_path / "page.md"
    file.write_text(page)

    blocks = blocks_of(file)

    with reading(file, tmp_path, os.environ) as reader:
        for block in blocks[:-1]:
            reader.follow(block)
        with pytest.raises(PageError):
            reader.follow(blocks[-1])


def test_python_of_a_page_shares_one_namespace_and_awaits(tmp_path: Path) -> None:
    """Names of one block are known to the next; `await` needs no function around it."""
    with reading(tmp_path / "page.md", tmp_path, os.environ) as reader:
        reader.follow(Block("python", "import asyncio\nasync def one(): return 1\n", 1))
        reader.follow(Block("python", "await asyncio.sleep(0)\nprint(await one())\n", 1))
        reader.follow(Block("output", "1\n", 1))


def test_a_command_in_the_background_is_stopped_with_its_page(tmp_path: Path) -> None:
    """Nothing that a page started goes on after it."""
    with reading(tmp_path / "page.md", tmp_path, os.environ) as reader:
        reader.follow(Block("console", f"$ exec {sys.executable} -c 'import time; time.sleep(600)' &\n", 1))
        [process] = reader.background

    assert process.returncode is not None


def test_a_directive_s_options_are_no_code(tmp_path: Path) -> None:
    """The caption of a block and the reason not to run it are read from its options, and its text begins after them."""
    file = tmp_path / "page.md"
    file.write_text(
        "```{code-block} python\n:caption: a.py\n\nx = 1\n```\n\n```{not-run} sql\n:because: no server\nSELECT 1\n```\n"
    )

    assert blocks_of(file) == [
        Block("python", "x = 1\n", 4, caption="a.py"),
        Block("sql", "SELECT 1\n", 9, because="no server"),
    ]
