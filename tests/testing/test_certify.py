"""`pannier certify`: the suite as a command, found by way of its entry point."""

import json
import subprocess
import sys
from pathlib import Path


def certify(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user types it."""
    command = [str(Path(sys.executable).with_name("pannier")), "certify", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)


def test_options_may_follow_the_url(tmp_path: Path) -> None:
    """One rule of one storage is tried, the report is written, and the exit code says that nothing failed."""
    ran = certify("memory://{namespace}", "--rule", "R29", "--json", "report.json", cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads((tmp_path / "report.json").read_text())["profile"] == "quick"


def test_without_a_url_it_says_what_one_looks_like(tmp_path: Path) -> None:
    """The command line is wrong, and nothing is tried."""
    ran = certify(cwd=tmp_path)

    assert ran.returncode == 2
    assert "{tmp}" in ran.stderr
