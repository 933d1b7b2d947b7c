"""What `import pannier` costs, and what it leaves alone."""

import subprocess
import sys

HEAVY = {
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
ROUNDS = 15


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


def test_importing_pannier_costs_little_more_than_importing_what_it_stands_on() -> None:
    """`import pannier` takes at most 1.3 times the processor time of its dependencies, measured in turns."""
    stands_on = "attrs, cattrs, pluggy, asyncio"

    rounds = [(seconds_to_import(stands_on), seconds_to_import("pannier")) for _ in range(ROUNDS)]

    dependencies, pannier = (min(column) for column in zip(*rounds, strict=True))

    assert pannier <= 1.3 * dependencies


def seconds_to_import(modules: str) -> float:
    """Return the processor time that a fresh interpreter spends on importing *modules*."""
    program = f"import time; begun = time.process_time(); import {modules}; print(time.process_time() - begun)"
    return float(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout)
