"""The distributions, built as wheels and used as a stranger would: in an environment that holds nothing else."""

import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.wheels import MEMBERS, run

PROGRAM = Path(__file__).with_name("program.py")


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wheel_carries_its_licence_and_its_types(wheels: dict[str, Path], name: str) -> None:
    """Every wheel holds one import package, marked as typed, and the licence."""
    package = name.replace("-", "_")

    files = zipfile.ZipFile(wheels[name]).namelist()

    assert {file.partition("/")[0] for file in files} == {package, f"{package}-{version_of(name)}.dist-info"}
    assert f"{package}/py.typed" in files
    assert f"{package}-{version_of(name)}.dist-info/licenses/LICENSE" in files


@pytest.mark.parametrize(("adapter", "url"), [("pannier-memory", "memory://"), ("pannier-sqlite", "sqlite:///jobs.db")])
def test_core_and_one_adapter_are_enough_to_run_a_job(
    wheels: dict[str, Path], environment: Path, tmp_path: Path, adapter: str, url: str
) -> None:
    """The core's wheel and one adapter's, installed alone, queue a job, run it and give its result."""
    run("uv", "pip", "install", "--quiet", "--python", environment, wheels["pannier"], wheels[adapter])

    printed = subprocess.run(
        [environment, "-I", PROGRAM, url], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
    ).stdout

    assert printed == "5\n"


def test_the_command_without_its_extra_says_what_to_install(wheels: dict[str, Path], environment: Path) -> None:
    """`pannier`, installed without the extra `cli`, names the install that adds it, and fails."""
    run("uv", "pip", "install", "--quiet", "--python", environment, wheels["pannier"])

    ended = subprocess.run([environment.with_name("pannier")], capture_output=True, text=True, check=False)

    assert ended.returncode != 0
    assert "pip install 'pannier[cli]'" in ended.stderr.replace('"', "'")
    assert "Traceback" not in ended.stderr


def test_all_distributions_have_one_version() -> None:
    """A release is one version for all distributions, so a user never has to ask which ones fit together."""
    assert len({version_of(name) for name in MEMBERS}) == 1


def version_of(name: str) -> str:
    """Return the version in the pyproject of the distribution *name*."""
    version: str = tomllib.loads(MEMBERS[name].read_text())["project"]["version"]
    return version
