"""The skeleton of a new adapter: a distribution that works, to be rebuilt piece by piece on an engine."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from pannier.storage import CONTRACT_VERSION

FILES: Final[Mapping[str, str]] = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "readme.md.txt",
    ".github/workflows/tests.yml": "tests.yml.txt",
    "src/${package}/__init__.py": "init.py.txt",
    "src/${package}/plugin.py": "plugin.py.txt",
    "src/${package}/provider.py": "provider.py.txt",
    "src/${package}/py.typed": "py.typed.txt",
    "tests/test_conformance.py": "test_conformance.py.txt",
}
"""Where each file of a new adapter goes, and what it is made from."""


def check_name(name: str) -> None:
    """
    Refuse a *name* that can't be a URL scheme, a distribution and a package at once.

    Raises:
        ValueError: It is not lower-case letters and digits, beginning with a letter.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*", name):
        raise ValueError(f"the name {name!r} becomes a URL scheme and a package: lower-case letters and digits only")


def write_skeleton(name: str, folder: Path) -> list[Path]:
    """
    Write the skeleton of the adapter *name* into the new *folder*; return the files.

    Raises:
        ValueError: The name can't be one.
        FileExistsError: The folder exists, so that nothing of anybody's is overwritten.
    """
    check_name(name)
    words = {"name": name, "package": f"pannier_{name}", "title": name.capitalize(), "contract": CONTRACT_VERSION}
    folder.mkdir(parents=True)
    return [
        _write(folder / Template(path).substitute(words), Template(_text(source)).substitute(words))
        for path, source in FILES.items()
    ]


def _text(source: str) -> str:
    return files("pannier_testing.skeleton").joinpath("files", source).read_text("utf-8")


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path
