"""Files that nobody can write, where the system has such."""

from pathlib import Path

import pytest

from pannier_testing.torture.immutable import can_be_immutable, immutable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose files can be made immutable, or skip the test."""
    if not can_be_immutable(tmp_path):
        pytest.skip("not run: files can't be made immutable here")
    return tmp_path


def test_not_even_an_open_file_can_be_written(folder: Path) -> None:
    """Who opened it before is refused too, though he be root; afterwards he goes on."""
    path = folder / "jobs.db"
    with path.open("wb", buffering=0) as file:
        with immutable([path]), pytest.raises(PermissionError):
            file.write(b"job")
        file.write(b"job")

    assert path.read_bytes() == b"job"


def test_all_is_undone_where_one_can_not_be_made_so(folder: Path) -> None:
    """A file that is gone is none; where something can't be immutable, nothing stays so."""
    path = folder / "jobs.db"
    path.touch()

    with pytest.raises(OSError, match="ioctl"), immutable([path, folder / "gone", Path("/dev/null")]):
        pass

    path.unlink()


def test_a_look_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whatever the answer."""
    can_be_immutable(tmp_path)

    assert list(tmp_path.iterdir()) == []
