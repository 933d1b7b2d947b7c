"""A storage's URL: read, and never shown with its password."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier import ConfigurationError
from pannier.urls import StorageUrl


class Colour(StrEnum):
    """Choices."""

    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("text", "scheme", "host", "path"),
    [
        ("memory://", "memory", "", ""),
        ("memory://name", "memory", "name", ""),
        ("sqlite:///jobs.db", "sqlite", "", "jobs.db"),
        ("sqlite:////var/lib/jobs.db?timeout=3", "sqlite", "", "/var/lib/jobs.db"),
        ("SQLite:///a%20b.db", "sqlite", "", "a b.db"),
        ("mongodb+srv://u:p@a.example,b.example/db", "mongodb+srv", "a.example,b.example", "db"),
        ("postgresql://user:p%40ss@host:5432/db?schema=x", "postgresql", "host:5432", "db"),
        ("postgresql://%2Frun%2Fpostgresql/db", "postgresql", "/run/postgresql", "db"),
    ],
)
def test_its_parts_are_read(text: str, scheme: str, host: str, path: str) -> None:
    """Scheme in lower case, host without credentials, path percent-decoded."""
    url = StorageUrl(text)
    assert (url.scheme, url.host, url.path) == (scheme, host, path)


@pytest.mark.parametrize("text", ["", "jobs.db", "://host", "/var/lib/jobs.db"])
def test_one_without_a_scheme_is_refused_without_being_shown(text: str) -> None:
    """It may be a password that somebody pasted; the message shows examples instead."""
    with pytest.raises(ConfigurationError, match="a storage URL begins with its scheme"):
        StorageUrl(text)


def test_what_is_no_text_is_refused() -> None:
    """None from an environment variable that is not set, most of the time."""
    with pytest.raises(ConfigurationError, match="a storage URL must be a str, not NoneType"):
        StorageUrl(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:///jobs.db?timeout=3", "sqlite:///jobs.db?timeout=3"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("postgresql://user:swordfish@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:sword/f?ish@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:sword@fish@host/db", "postgresql://user:***@host/db"),
        ("postgresql://host/db?password=swordfish&schema=x", "postgresql://host/db?password=***&schema=x"),
        (
            "mongodb://host/db?tlsCertificateKeyFilePassword=swordfish",
            "mongodb://host/db?tlsCertificateKeyFilePassword=***",
        ),
        ("x://host/?auth_token=swordfish", "x://host/?auth_token=***"),
    ],
)
def test_it_is_shown_without_secrets(text: str, shown: str) -> None:
    """R107: in str, in repr, and so in every message."""
    assert str(StorageUrl(text)) == shown
    assert repr(StorageUrl(text)) == f"StorageUrl({shown!r})"


@given(st.text(min_size=3, alphabet=st.characters(exclude_characters="*", exclude_categories=["Cs"])))
def test_no_password_is_ever_shown(password: str) -> None:
    """R107: whatever is in it, unescaped separators too; what else the URL says has none of its characters."""
    marked = f"\u2620{password}\u2620"
    assert "\u2620" not in str(StorageUrl(f"postgresql://user:{marked}@host/db"))


def test_its_options_are_read() -> None:
    """Percent-decoded, blank ones too."""
    assert StorageUrl("x:///?a=1&b=%2F&c=").options == {"a": "1", "b": "/", "c": ""}


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda url: url.options, "the option 'a' stands twice"),
        (lambda url: StorageUrl("x:///?b=1").check_options({"a", "c"}), r"unknown option 'b' \(known: a, c\)"),
        (lambda url: StorageUrl("x:///?b=1").check_options(()), r"unknown option 'b' \(known: none\)"),
    ],
)
def test_an_option_that_stands_twice_or_is_unknown_is_refused(
    ask: Callable[[StorageUrl], object], complaint: str
) -> None:
    """A misspelled one would silently do nothing."""
    with pytest.raises(ConfigurationError, match=complaint):
        ask(StorageUrl("x:///?a=1&a=2"))


@pytest.mark.parametrize(("text", "seconds"), [("x:///", 5), ("x:///?timeout=0.25", 0.25), ("x:///?timeout=3", 3)])
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    """Or the default."""
    assert StorageUrl(text).seconds("timeout", default=timedelta(seconds=5)) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "1e300"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """By the option's name, and more than 0 it has to be."""
    with pytest.raises(ConfigurationError, match="timeout in x:"):
        StorageUrl(f"x:///?timeout={text}").seconds("timeout", default=timedelta(seconds=5))


def test_a_choice_is_read() -> None:
    """Or the default."""
    assert StorageUrl("x:///?colour=blue").choice("colour", default=Colour.RED) is Colour.BLUE
    assert StorageUrl("x:///").choice("colour", default=Colour.RED) is Colour.RED


def test_another_choice_is_refused_with_those_there_are() -> None:
    """Also one that differs by case only."""
    with pytest.raises(ConfigurationError, match="must be one of red, blue, not 'Blue'"):
        StorageUrl("x:///?colour=Blue").choice("colour", default=Colour.RED)
