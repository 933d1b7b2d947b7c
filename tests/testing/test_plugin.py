"""The pytest plugin beside others: it changes nothing for other tests, and the suite needs none of them."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

USERS_TESTS = """
import random
import sys

import anyio
import pytest


def test_sync():
    assert True


def test_that_fails():
    assert 1 == 2


@pytest.mark.asyncio
async def test_of_asyncio():
    await anyio.sleep(0)


@pytest.mark.anyio
async def test_of_anyio(anyio_backend_name):
    await anyio.sleep(0)


async def test_unmarked():
    await anyio.sleep(0)


@pytest.mark.parametrize("number", range(3))
def test_with_a_seed(number):
    random.seed(number)
    assert random.random() < 1


def test_that_the_suite_is_not_imported():
    assert not {"pannier_testing.trial", "pannier_testing.rules", "pannier.queues", "hypothesis"} & set(sys.modules)
"""

ALONE = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:xdist", "-p", "no:randomly", "-p", "no:timeout")
"""What leaves pytest without the plugins that the environment has."""

IN_ORDER = ("-p", "no:randomly")
ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")

COMPANY: dict[str, tuple[str, ...]] = {
    "asyncio-auto": (*IN_ORDER, *ASYNCIO, "-o", "asyncio_mode=auto"),
    "asyncio-strict": (*IN_ORDER, *ASYNCIO, "-o", "asyncio_mode=strict"),
    "anyio-auto": (*IN_ORDER, "-p", "no:asyncio", "-o", "anyio_mode=auto"),
    "randomly": ("-p", "no:asyncio", "-p", "randomly", "--randomly-seed=7"),
    "xdist": (*IN_ORDER, "-p", "no:asyncio", "-n2"),
    "nobody": ALONE,
}
"""Who else may be there, and how it is told to behave."""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder with no settings but that a warning is an error."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\nmarkers =\n    asyncio\n    anyio\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)


def outcomes_of(output: str) -> Sequence[str]:
    """Return what a run says of each test, in the order of the report."""
    return re.findall(r"^(?:PASSED|FAILED|ERROR|SKIPPED).*?(?= - |$)", output, flags=re.MULTILINE)


@pytest.mark.parametrize("company", [name for name in COMPANY if name != "xdist"])  # which has no order
def test_other_tests_end_as_they_do_without_the_plugin(tmp_path: Path, company: str) -> None:
    """Each in the same way, in the same order; and the suite is not even imported."""
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    with_plugin = run_pytest(tmp_path, "-q", "-rA", *COMPANY[company])
    without = run_pytest(tmp_path, "-q", "-rA", "-p", "no:pannier", *COMPANY[company])

    assert len(outcomes_of(with_plugin.stdout)) >= 9, with_plugin.stdout + with_plugin.stderr
    assert outcomes_of(with_plugin.stdout) == outcomes_of(without.stdout)
    assert with_plugin.returncode == without.returncode
    assert "PASSED test_users.py::test_that_the_suite_is_not_imported" in with_plugin.stdout
    assert "pannier's storage contract" not in with_plugin.stdout


@pytest.mark.parametrize("company", COMPANY.values(), ids=COMPANY)
def test_the_suite_finds_the_same_in_any_company(tmp_path: Path, company: tuple[str, ...]) -> None:
    """Whatever runs async tests, shares tests out or shuffles them: each of the suite's tests runs once, and passes."""
    rules = ("R8", "R29", "R30")
    asked = ("--pyargs", "pannier_testing.conformance", "--pannier-storage=memory://{namespace}", "--pannier-seed=1")
    ran = run_pytest(
        tmp_path, *asked, *(f"--pannier-rule={rule}" for rule in rules), "--pannier-json=report.json", *company
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = {rule["number"]: rule["found"] for rule in report["rules"] if rule["tests"]}
    assert found == dict.fromkeys(rules, "passed")
    assert "warning" not in ran.stdout


def test_a_class_of_the_suite_lives_beside_other_tests(tmp_path: Path) -> None:
    """In one module, with a plugin that takes every coroutine for a test: the suite's stay what they are."""
    (tmp_path / "test_mine.py").write_text(
        "from pannier_testing import StorageConformance\n\n\n"
        "class TestMine(StorageConformance):\n"
        "    def storage_url(self, env):\n"
        "        return f'memory://{env.namespace}'\n\n\n"
        "async def test_another():\n"
        "    assert True\n"
    )
    ran = run_pytest(tmp_path, *COMPANY["asyncio-auto"], "--pannier-rule=R8", "-rA")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert sum("PASSED test_mine.py::TestMine::test_rule[R8-" in line for line in ran.stdout.splitlines()) >= 1
    assert "PASSED test_mine.py::test_another" in ran.stdout
