"""Environments of the peers: each has one of its own, so that none of them decides which versions another gets."""

import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).parent / ".environments"


def python_of(requires: Sequence[str]) -> Path:
    """Return the Python of an environment that has *requires*; made on first use. Empty: this one."""
    if not requires:
        return Path(sys.executable)
    name = sha256("\n".join((sys.version, *requires)).encode()).hexdigest()[:12]
    python = HOME / name / "bin" / "python"
    if not (HOME / name / "complete").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", f"--python={sys.executable}", HOME / name], check=True)
        subprocess.run(["uv", "pip", "install", "--quiet", f"--python={python}", *requires], check=True)
        (HOME / name / "complete").touch()
    return python
