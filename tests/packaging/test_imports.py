"""What `import pannier` leaves alone."""

import subprocess
import sys

HEAVY = {
    "cattrs.preconf.json",
    "decimal",
    "importlib.metadata",
    "difflib",
    "json",
    "pannier.plugins",
    "pannier.storage",
    "asyncinotify",
    "asyncpg",
    "hypothesis",
    "pannier_memory",
    "pannier_mongo",
    "pannier_postgres",
    "pannier_sqlite",
    "pannier_testing",
    "pymongo",
    "pytest",
    "rich",
    "sqlite3",
    "typer",
}


def test_importing_pannier_loads_no_driver_no_command_line_and_no_test_runner() -> None:
    """A program that imports pannier pays for the core alone; the rest waits until it is asked for."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, pannier; print(*sys.modules)"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()

    assert "pannier" in loaded
    assert HEAVY & set(loaded) == set()
