"""`pannier certify`: the suite as a command, found by way of its entry point."""

import json
import subprocess
import sys
from pathlib import Path

from pannier_testing.reference.loopback import LoopbackServer
from pannier_testing.saboteurs.making import in_memory


def certify(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user types it."""
    command = [str(Path(sys.executable).with_name("pannier")), "certify", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)


def test_options_may_follow_the_url(tmp_path: Path) -> None:
    """One rule of one storage is tried, the report is written, and the exit code says that nothing failed."""
    ran = certify("memory://{namespace}", "--rule", "R29", "--json", "report.json", cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads((tmp_path / "report.json").read_text())["profile"] == "quick"
    assert "warning" not in (ran.stdout + ran.stderr).lower()  # of pytest's, which say nothing of the storage


def test_a_verdict_that_is_not_the_expected_one_is_a_failure(tmp_path: Path) -> None:
    """Whoever lost an add-on on the way learns it from the exit code, and both lines stand in the output."""
    expected = certify("memory://{namespace}", "--rule", "R29", "--expect", "incomplete", cwd=tmp_path)
    unexpected = certify("memory://{namespace}", "--rule", "R29", "--expect", "conformant 1.0 core", cwd=tmp_path)

    assert expected.returncode == 0, expected.stdout + expected.stderr
    assert unexpected.returncode == 1, unexpected.stdout + unexpected.stderr
    assert "\nincomplete\nexpected: conformant 1.0 core\n" in unexpected.stdout


def found(report: Path) -> dict[str, str]:
    """Return what a report found of the rules that a server is asked for."""
    rules = json.loads(report.read_text())["rules"]
    return {rule["number"]: rule["found"] for rule in rules if rule["number"] in {"R109", "R112"}}


def test_a_storage_without_a_server_is_not_asked_for_a_connection(tmp_path: Path) -> None:
    """The network rules are reported as not offered, which costs no verdict."""
    certify("memory://{namespace}", "--rule", "R109", "--rule", "R112", "--json", "report.json", cwd=tmp_path)

    assert found(tmp_path / "report.json") == {"R109": "not offered", "R112": "not offered"}


def test_a_storage_with_a_server_is_asked_through_the_proxy(tmp_path: Path) -> None:
    """The loopback passes the network rules by the command, and each of them was tried."""
    with LoopbackServer(in_memory) as server:
        ran = certify(
            f"loopback://{server.address}/{{namespace}}",
            *("--adapter", "pannier_testing.reference.plugin:plugin", "--rule", "R109", "--rule", "R112"),
            *("--json", "report.json"),
            cwd=tmp_path,
        )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert found(tmp_path / "report.json") == {"R109": "passed", "R112": "passed"}


def test_several_processes_without_xdist_are_refused_in_words(tmp_path: Path) -> None:
    """It says what to install, in place of pytest's usage, and nothing is tried."""
    hidden = "import sys; sys.modules['xdist'] = None; from pannier.cli import main; main()"
    command = [sys.executable, "-c", hidden, "certify", "memory://{namespace}", "-n", "2"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "pip install pytest-xdist" in ran.stderr


def test_without_a_url_it_says_what_one_looks_like(tmp_path: Path) -> None:
    """The command line is wrong, and nothing is tried."""
    ran = certify(cwd=tmp_path)

    assert ran.returncode == 2
    assert "{tmp}" in ran.stderr
