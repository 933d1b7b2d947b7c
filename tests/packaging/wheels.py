"""The distributions of the workspace."""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMBERS = {
    tomllib.loads(pyproject.read_text())["project"]["name"]: pyproject
    for pyproject in sorted(
        [ROOT / "core/pyproject.toml", ROOT / "testing/pyproject.toml", *ROOT.glob("adapters/*/pyproject.toml")]
    )
}


def run(*command: str | Path) -> str:
    """Run *command* and return what it printed; what it complained of is in the test's output if it fails."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
