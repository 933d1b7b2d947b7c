"""Settings: what the URL says."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlunsplit

from attrs import field, frozen

from pannier.errors import ConfigurationError
from pannier.urls import StorageUrl

OPTIONS: Final[Mapping[str, str]] = {
    "timeout": "seconds that a call may take (default 5)",
}

DRIVER_OPTIONS: Final = frozenset(
    {
        "appname",
        "authmechanism",
        "authmechanismproperties",
        "authsource",
        "compressors",
        "connecttimeoutms",
        "directconnection",
        "heartbeatfrequencyms",
        "loadbalanced",
        "localthresholdms",
        "maxconnecting",
        "maxidletimems",
        "maxpoolsize",
        "minpoolsize",
        "replicaset",
        "retryreads",
        "retrywrites",
        "servermonitoringmode",
        "serverselectiontimeoutms",
        "sockettimeoutms",
        "srvmaxhosts",
        "srvservicename",
        "ssl",
        "tls",
        "tlsallowinvalidcertificates",
        "tlsallowinvalidhostnames",
        "tlscafile",
        "tlscertificatekeyfile",
        "tlscertificatekeyfilepassword",
        "tlscrlfile",
        "tlsdisableocspendpointcheck",
        "tlsinsecure",
        "waitqueuetimeoutms",
        "zlibcompressionlevel",
    }
)
"""
What PyMongo reads from the URL, in any case of letters, and may be told.

Write concern, read concern and read preference are not among them: what pannier promises rests on its own.
"""

DATABASE_BYTES: Final = 63
"""MongoDB holds no longer name of a database."""

_FORBIDDEN: Final = frozenset('/\\. "$*<>:|?\0')


@frozen(kw_only=True)
class Settings:
    """
    One storage's settings.

    Attributes:
        shown: The URL without its secrets, for messages.
        uri: The URL as the driver reads it, password included.
        database: The namespace.
        timeout: How long a call may take.
    """

    shown: str
    uri: str = field(repr=False)
    database: str
    timeout: timedelta


def settings_of(url: StorageUrl) -> Settings:
    """
    Read *url*.

    Raises:
        ConfigurationError: It can't be read, names no database, or an option is unknown or has a bad value.
    """
    parts = url.parts
    _check_options(url)
    timeout = url.seconds("timeout", default=timedelta(seconds=5))
    if not timedelta(milliseconds=1) <= timeout <= timedelta(days=1):
        raise ConfigurationError(f"timeout in {url} must be from 0.001 seconds to a day")
    return Settings(
        shown=str(url),
        uri=urlunsplit((url.scheme, parts.netloc, parts.path, _driver_query(parts.query), "")),
        database=_database(url, unquote(parts.path.removeprefix("/"))),
        timeout=timeout,
    )


def _check_options(url: StorageUrl) -> None:
    for option in url.options:
        if option not in OPTIONS and option.lower() not in DRIVER_OPTIONS:
            raise ConfigurationError(
                f"{url} has an option {url.quote(option)} that is unknown here, or not for you to choose "
                f"(known: {', '.join(sorted((*OPTIONS, *DRIVER_OPTIONS)))})"
            )


def _database(url: StorageUrl, database: str) -> str:
    if not database:
        raise ConfigurationError(f"{url} names no database; write one behind the host, as in mongodb://localhost/app")
    if len(database.encode("utf-8", "surrogatepass")) > DATABASE_BYTES or not _FORBIDDEN.isdisjoint(database):
        raise ConfigurationError(f"{url} names a database that MongoDB does not allow: {url.quote(database)}")
    return database


def _driver_query(query: str) -> str:
    """Return *query* without pannier's own options."""
    return urlencode([(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in OPTIONS])
