"""The README shows what is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]


def test_the_readme_s_example_runs_as_it_stands(tmp_path: Path) -> None:
    """What the README shows first can be saved to a file and run, and prints what its comments say."""
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    program = tmp_path / "example.py"
    program.write_text(example)

    ran = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=True)

    progress, result, cancellation, executed = ran.stdout.splitlines()
    assert progress.startswith("JobProgress(")
    assert result == executed == "cat.png at 256"
    assert cancellation == "already_complete"
    assert ran.stderr == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_outside_of_the_documentation_link_to_what_is_there(page: Path) -> None:
    """Sphinx checks its own pages only."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
