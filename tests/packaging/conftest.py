"""The distributions as wheels, and empty environments to install them into."""

import sys
from pathlib import Path

import pytest

from tests.packaging.wheels import MEMBERS, ROOT, run


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the wheel of every distribution, built by way of its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    run("uv", "build", "--quiet", "--all-packages", "--out-dir", folder, ROOT)
    return {name: next(folder.glob(f"{name.replace('-', '_')}-[0-9]*.whl")) for name in MEMBERS}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return the interpreter of a new, empty environment."""
    run("uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    return Path(run("uv", "python", "find", tmp_path / "venv").strip())
