"""The distributions of the workspace."""

import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMBERS = {
    tomllib.loads(pyproject.read_text())["project"]["name"]: pyproject
    for pyproject in sorted(
        [ROOT / "core/pyproject.toml", ROOT / "testing/pyproject.toml", *ROOT.glob("adapters/*/pyproject.toml")]
    )
}


def install_suite(environment: Path, wheels: Mapping[str, Path], *further: Path) -> None:
    """Install what the author of a storage does, and *further* packages."""
    suite = f"pannier-testing[cli] @ {wheels['pannier-testing'].as_uri()}"
    ours = (wheels["pannier"], wheels["pannier-memory"], suite)
    run("uv", "pip", "install", "--quiet", "--python", environment, *ours, *further)


def run(*command: str | Path) -> str:
    """Run *command* and return what it printed; what it complained of is in the test's output if it fails."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
