"""The URL and its options."""

from datetime import timedelta

import pytest

from pannier.errors import ConfigurationError
from pannier.urls import StorageUrl
from pannier_mongo.settings import settings_of


def test_the_path_is_the_database_and_the_timeout_is_pannier_s_own() -> None:
    """What is the driver's is passed on to it as it stands, several hosts and all."""
    settings = settings_of(StorageUrl("mongodb://a:1,b:2/app?replicaSet=rs0&timeout=2.5&authSource=admin"))

    assert settings.database == "app"
    assert settings.timeout == timedelta(seconds=2.5)
    assert settings.uri == "mongodb://a:1,b:2/app?replicaSet=rs0&authSource=admin"


def test_a_cluster_s_name_is_looked_up_by_the_driver() -> None:
    """mongodb+srv:// stays what it is."""
    assert settings_of(StorageUrl("mongodb+srv://u:p@cluster.example.org/app")).uri == (
        "mongodb+srv://u:p@cluster.example.org/app"
    )


def test_the_password_is_in_no_text() -> None:
    """Neither the settings nor what they show give it away."""
    settings = settings_of(StorageUrl("mongodb://user:s3cret@host/app"))

    assert "s3cret" not in f"{settings!r}{settings.shown}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mongodb://localhost", "names no database"),
        ("mongodb://localhost/", "names no database"),
        ("mongodb://localhost/a.b", "does not allow"),
        ("mongodb://localhost/a%2Fb", "does not allow"),
        (f"mongodb://localhost/{'x' * 64}", "does not allow"),
        ("mongodb://localhost/app?timeout=0", "timeout"),
        ("mongodb://localhost/app?timeout=nan", "timeout"),
        ("mongodb://localhost/app?timeout=1e-9", "timeout"),
        ("mongodb://localhost/app?timeout=1000000", "timeout"),
        ("mongodb://localhost/app?colour=red", "colour"),
        ("mongodb://localhost/app?w=1", "not for you to choose"),
        ("mongodb://localhost/app?readPreference=secondary", "not for you to choose"),
        ("mongodb://localhost/app?replicaSet=a&replicaSet=b", "stands twice"),
        ("mongodb://[localhost/app", "can't be read"),
    ],
)
def test_what_can_t_be_used_is_refused(url: str, words: str) -> None:
    """An option that would do nothing, or undo a promise, is an error."""
    with pytest.raises(ConfigurationError, match=words):
        settings_of(StorageUrl(url))
