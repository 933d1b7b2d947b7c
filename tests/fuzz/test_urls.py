"""Storage URLs: whatever stands in one, a storage or a ConfigurationError, and no error shows a secret."""

import traceback
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pannier import JobQueues
from pannier.errors import ConfigurationError
from pannier.plugins import Plugins
from pannier.urls import StorageUrl

SECRET = "Zq9vX7kW"  # noqa: S105  # it is one for no door
SCHEMES = ("memory", "sqlite", "postgresql", "postgres", "mongodb", "mongodb+srv", "SQLite", "x", "")
WORDS = st.text(st.characters(exclude_categories=()), max_size=20)
OPTIONS = st.sampled_from(
    ["timeout", "schema", "synchronous", "connections", "notify", "pooler", "sslmode", "appName", "sslrootcert", "x"]
)
VALUES = st.sampled_from(["", "0", "-1", "nan", "inf", "1e309", "\u0663", "1" * 5000, "on", "\0", "%zz"]) | WORDS
PLUGINS = Plugins.installed()
NO_CREDENTIALS = st.text(st.characters(exclude_characters=":@/?#"), max_size=10)


def said_of(url: str) -> str:
    """Return everything that making job queues and a storage of *url* says: its errors with their causes, its repr."""
    try:
        storage = PLUGINS.create_storage(StorageUrl(url))
    except ConfigurationError as error:
        return "".join(traceback.format_exception(error))
    jobs = JobQueues(url)
    return f"{StorageUrl(url)!r} {StorageUrl(url)} {jobs!r} {jobs.storage_name} {storage!r} {vars(StorageUrl)!r}"


@given(st.sampled_from(SCHEMES), WORDS, st.lists(st.tuples(OPTIONS, VALUES), max_size=3))
@example("sqlite", "[", [])
@example("memory", "]", [])
@example("postgresql", "[::1", [])
@example("mongodb", "h:99999999/x", [])
@example("postgresql", "h:x/db", [])
def test_any_url_is_a_storage_or_a_configuration_error(
    scheme: str, place: str, options: Sequence[tuple[str, str]]
) -> None:
    """No error of the standard library's or of a driver's gets out."""
    query = "&".join(f"{name}={value}" for name, value in options)
    said_of(f"{scheme}://{place}?{query}")


@given(
    st.sampled_from(["sqlite", "postgresql", "mongodb", "memory", "x"]),
    NO_CREDENTIALS,
    WORDS,
    WORDS,
    st.lists(st.tuples(OPTIONS, VALUES), max_size=2),
)
@example("postgresql", "", "/?#[", "h/db", [])
@example("mongodb", "", "", "[", [])
def test_no_password_is_shown(
    scheme: str, user: str, salt: str, place: str, options: Sequence[tuple[str, str]]
) -> None:
    """Neither by an error, nor by its causes, nor by a repr, whatever else is wrong with the URL."""
    query = "&".join(f"{name}={value}" for name, value in options)

    assert SECRET not in said_of(f"{scheme}://{user}:{salt}{SECRET}@{place}?{query}")


@pytest.mark.parametrize(
    "option",
    [
        *("password", "PASSWORD", "sslpassword", "passfile", "p%61ssword", "tlsCertificateKeyFilePassword"),
        "authMechanismProperties=AWS_SESSION_TOKEN:",
    ],
)
@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "mongodb"])
@pytest.mark.parametrize("place", ["h/db", "[", "h", "h/db?timeout=x&a=b"])
def test_no_secret_option_is_shown(scheme: str, place: str, option: str) -> None:
    """However its name is spelt."""
    sign = "" if "=" in option else "="

    assert SECRET not in said_of(f"{scheme}://{place}{'&' if '?' in place else '?'}{option}{sign}{quote(SECRET)}")
