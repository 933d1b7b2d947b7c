"""What the URL says, and what it may not."""

from datetime import timedelta

import pytest

from pannier.errors import ConfigurationError
from pannier.urls import StorageUrl
from pannier_postgres.settings import Notify, Pooler, Settings, settings_of


def test_defaults_listen_and_keep_to_a_schema_of_their_own() -> None:
    """Without options jobs live in the schema pannier, and changes are announced and listened to."""
    url = "postgresql://ann:secret@db.example.org/app"

    assert settings_of(StorageUrl(url)) == Settings(
        shown="postgresql://ann:***@db.example.org/app",
        dsn=url,
        application_name="pannier",
        schema="pannier",
        timeout=timedelta(seconds=5),
        connections=8,
        notify=Notify.ON,
        pooler=Pooler.NONE,
    )


def test_options_are_read_and_those_of_the_driver_are_left_to_it() -> None:
    """Each option has its effect, percent-encoded or not, and none of ours reaches the server as one of its own."""
    settings = settings_of(
        StorageUrl(
            "postgresql://h/app?%73chema=My%20jobs&sslmode=verify-full&timeout=0.5&connections=4&notify=off"
            "&application_name=shop&target_session_attrs=read-write"
        )
    )

    assert settings.dsn == (
        "postgresql://h/app?sslmode=verify-full&application_name=shop&target_session_attrs=read-write"
    )
    assert (settings.schema, settings.channel) == ("My jobs", "pannier.My jobs")
    assert (settings.timeout, settings.connections) == (timedelta(milliseconds=500), 4)
    assert (settings.notify, settings.application_name) == (Notify.OFF, "shop")


def test_behind_a_transaction_pooler_changes_are_announced_and_not_listened_to() -> None:
    """LISTEN needs a session of one's own, which such a pooler does not give; NOTIFY works."""
    assert settings_of(StorageUrl("postgresql://h/app?pooler=transaction")).notify is Notify.SEND


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("timeout=soon", "number of seconds"),
        ("timeout=0", "seconds up to a day"),
        ("timeout=nan", "seconds up to a day"),
        ("schema=", "1 to 55 bytes"),
        ("schema=%00", "1 to 55 bytes"),
        ("schema=" + "x" * 56, "1 to 55 bytes"),
        ("connections=3", "at least 4"),
        ("connections=%C2%B2", "at least 4"),
        ("notify=yes", "on, send, off"),
        ("pooler=session", "none, transaction"),
        ("pooler=transaction&notify=on", "write notify=send"),
        ("sslmod=require", "unknown option 'sslmod'"),
        ("schema=a&schema=b", "stands twice"),
    ],
)
def test_a_wrong_option_is_refused_with_the_remedy(options: str, words: str) -> None:
    """Whoever misspells a URL learns what to write, before anything is connected to, and sees no password."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        settings_of(StorageUrl(f"postgresql://ann:s3cret@h/app?{options}"))

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://ann:s3c[ret@h/app", "postgresql://ann:s3cret@[h/app"])
def test_a_url_that_can_not_be_read_shows_no_password(url: str) -> None:
    """What is special in a password must be percent-encoded, and the message says so."""
    with pytest.raises(ConfigurationError, match="percent-encode") as caught:
        settings_of(StorageUrl(url))

    assert "s3c" not in str(caught.value)


def test_a_representation_shows_no_password() -> None:
    """Settings end up in tracebacks and logs."""
    settings = settings_of(StorageUrl("postgresql://ann:s3cret@h/app?sslpassword=s3cret2&password=s3cret3"))

    assert "s3cret" not in repr(settings)
