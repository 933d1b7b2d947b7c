"""A storage that somebody else has written, from the documentation alone: docs/examples/pannier-lmdb."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.packaging.wheels import MEMBERS, ROOT, install_suite, run

EXAMPLE = ROOT / "docs/examples/pannier-lmdb"
VERDICT = "conformant 1.0 distributed + inspect, results"
PUBLIC = ("pannier", "pannier.storage", "pannier_testing")


@pytest.mark.timeout(900)  # the whole suite runs in it
def test_a_third_party_s_storage_is_certified_from_wheels(
    wheels: dict[str, Path], environment: Path, tmp_path: Path
) -> None:
    """Nothing but what users install is needed to write a storage, and to certify it by one command."""
    install(environment, wheels, tmp_path)

    certify = (environment.with_name("pannier"), "certify", "lmdb:///{tmp}/jobs", "--expect", VERDICT)
    ran = subprocess.run(certify, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)

    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("told", [EXAMPLE / "README.md", ROOT / "docs/how-to/write-a-storage.md"])
def test_the_verdict_is_told_as_it_is(told: Path) -> None:
    """What the example's pages promise is what the test above has found."""
    assert VERDICT in map(str.strip, told.read_text().splitlines())


def test_a_third_party_s_code_is_typed_against_what_is_installed(
    wheels: dict[str, Path], environment: Path, tmp_path: Path
) -> None:
    """The public names carry their types: strict checking finds nothing amiss outside of the workspace."""
    install(environment, wheels, tmp_path)
    run("uv", "pip", "install", "--quiet", "--python", environment, "mypy")

    ran = subprocess.run(
        [environment, "-m", "mypy", "--cache-dir", tmp_path / "cache", "src", "tests"],
        cwd=EXAMPLE,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout


def test_a_third_party_s_own_tests_pass(wheels: dict[str, Path], environment: Path, tmp_path: Path) -> None:
    """Its tests give the aids that no URL can: a damaged record, the store's size, a store of a newer schema."""
    install(environment, wheels, tmp_path)

    aided = [f"--pannier-rule={number}" for number in ("R56", "R76", "R115")]
    ran = subprocess.run(
        [environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", *aided],
        cwd=EXAMPLE,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert "rules: 3 passed" in ran.stdout


def test_a_third_party_needs_public_names_only() -> None:
    """What the example imports of pannier is in an `__all__` of one of the three public modules."""
    files = sorted(EXAMPLE.rglob("*.py"))

    imported = {name for file in files for name in _imported_of_pannier(file)}

    assert ("pannier.storage", "JobRecord") in imported
    assert [name for name in sorted(imported) if not _is_public(*name)] == []


def test_the_example_is_no_member_of_the_workspace() -> None:
    """It is installed as anybody's package is, so that it can't lean on the workspace."""
    name = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["name"]

    assert name not in MEMBERS


def install(environment: Path, wheels: dict[str, Path], tmp_path: Path) -> None:
    """Install core, suite and example, as wheels and with what they need."""
    run("uv", "build", "--quiet", "--wheel", "--out-dir", tmp_path, EXAMPLE)
    (example,) = tmp_path.glob("pannier_lmdb-*.whl")
    install_suite(environment, wheels, example)


def _imported_of_pannier(file: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import of pannier's own in *file*; the name "" where a module is imported."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if _is_pannier_s(module):
                yield from ((module, alias.name) for alias in names)
            case ast.Import(names=names):
                yield from ((alias.name, "") for alias in names if _is_pannier_s(alias.name))
            case _:
                pass


def _is_pannier_s(module: str) -> bool:
    return module.partition(".")[0] in {"pannier", "pannier_testing"}


def _is_public(module: str, name: str) -> bool:
    return module in PUBLIC and name in import_module(module).__all__
