"""`pannier new-adapter`: what it writes, and what it refuses to."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pannier_testing.new_adapter import app
from pannier_testing.skeleton import write_skeleton


def test_nothing_of_anybody_s_is_overwritten(tmp_path: Path) -> None:
    """A folder that exists is left as it is, and named."""
    (tmp_path / "notes.txt").write_text("mine")

    ran = CliRunner().invoke(app, ["toy", "--folder", str(tmp_path)])

    assert ran.exit_code == 1
    assert str(tmp_path) in ran.output
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["", "my store", "My", "7up", "a-b", "../x", "a.b"])
def test_a_name_that_cannot_be_a_scheme_and_a_package_is_refused(name: str, tmp_path: Path) -> None:
    """The name becomes a URL scheme, a distribution and a package; nothing is written for one that can't."""
    with pytest.raises(ValueError, match="lower-case"):
        write_skeleton(name, tmp_path / "new")

    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_new_adapter_bears_its_name_and_no_gap(tmp_path: Path) -> None:
    """All placeholders are filled in, in paths and in texts."""
    written = write_skeleton("toy", tmp_path / "pannier-toy")

    left = [path for path in written if "${" in path.read_text().replace("${{", "") or "$" in str(path)]

    assert left == []
    assert tmp_path / "pannier-toy/src/pannier_toy/provider.py" in written
