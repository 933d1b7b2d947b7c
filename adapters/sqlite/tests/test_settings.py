"""What the URL says, and what it may not."""

from datetime import timedelta
from pathlib import Path

import pytest

from pannier.errors import ConfigurationError
from pannier.urls import StorageUrl
from pannier_sqlite.settings import Settings, Synchronous, Watch, settings_of


def test_defaults_are_durable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without options a commit survives the loss of power, and a relative path is fixed where it is made."""
    monkeypatch.chdir(tmp_path)

    assert settings_of(StorageUrl("sqlite:///jobs.db")) == Settings(
        path=tmp_path / "jobs.db", timeout=timedelta(seconds=5), synchronous=Synchronous.FULL, watch=Watch.AUTO
    )


def test_options_are_read() -> None:
    """Each option has its effect; four slashes make an absolute path."""
    url = StorageUrl("sqlite:////var/lib/jobs%20a.db?timeout=0.5&synchronous=normal&watch=poll")

    assert settings_of(url) == Settings(
        path=Path("/var/lib/jobs a.db"),
        timeout=timedelta(milliseconds=500),
        synchronous=Synchronous.NORMAL,
        watch=Watch.POLL,
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://jobs.db", "write sqlite:///jobs.db"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a%00b", "names no file"),
        ("sqlite:///jobs.db?timeout=soon", "number of seconds"),
        ("sqlite:///jobs.db?timeout=0", "more than 0"),
        ("sqlite:///jobs.db?timeout=nan", "number of seconds"),
        ("sqlite:///jobs.db?synchronous=off", "full, normal"),
        ("sqlite:///jobs.db?sync=full", "unknown option 'sync'"),
    ],
)
def test_a_wrong_url_is_refused_with_the_remedy(url: str, words: str) -> None:
    """Whoever misspells a URL learns what to write, before any file is made."""
    with pytest.raises(ConfigurationError, match=words):
        settings_of(StorageUrl(url))
