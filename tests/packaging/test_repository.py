"""What the repository may hold: nothing that is true on one machine only."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The words are put together here, because this file is among those that are searched.
NEIGHBOUR = re.escape("../" + "shared")
MACHINE = r"(?<![\w.)}*])/" + r"(?:home|root|Users|work)/\w"
REGISTRY = "|".join(re.escape(host + ".org") for host in ("pypi", "pythonhosted", "npmjs", "anaconda"))


def committed() -> list[Path]:
    """Return every file that git tracks, and that is still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(NEIGHBOUR, id="a folder beside the repository"),
        pytest.param(MACHINE, id="an absolute path of a machine"),
        pytest.param(REGISTRY, id="a registry's host"),
    ],
)
def test_no_committed_file_names(pattern: str) -> None:
    """A clone works anywhere: no file names a machine's folders, a folder beside the clone, or a package registry."""
    files = committed()

    naming = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if re.search(pattern, line)
    ]

    assert len(files) > 0
    assert naming == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (NEIGHBOUR, "see .." + "/shared/design.md"),
        (MACHINE, "python = '/" + "home/someone/bin/python'"),
        (REGISTRY, "https://" + "pypi" + ".org/simple"),
    ],
)
def test_the_patterns_find_what_they_look_for(pattern: str, line: str) -> None:
    """Each of the patterns above recognises an offender."""
    assert re.search(pattern, line)


def test_no_lock_is_committed() -> None:
    """A lock file names the registry that it was made from, so none is in the repository."""
    assert [file.name for file in committed() if file.name == "uv.lock"] == []
