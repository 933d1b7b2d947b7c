"""
The command `pannier`. Needs the extra `cli`; without it the command says so.

Nothing outside of this package imports it, and it imports Typer and rich only once the command runs.
"""

import sys
from typing import Final, NoReturn

EXTRA: Final = frozenset({"rich", "typer"})
"""What the extra `cli` installs."""


def main() -> NoReturn:
    """Run the command that `sys.argv` names, and end the process with its exit code."""
    try:
        from pannier.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        sys.exit(f"pannier: the command needs {error.name!r}, which is not installed: pip install 'pannier[cli]'")
    sys.exit(run(sys.argv[1:]))
