"""Settings: what the URL says."""

import math
import os
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_plus, urlunsplit

from attrs import field, frozen

from pannier.errors import ConfigurationError
from pannier.urls import StorageUrl

OPTIONS: Final[Mapping[str, str]] = {
    "schema": "the schema that holds the jobs: the namespace (default pannier)",
    "timeout": "seconds that a call may take (default 5)",
    "connections": "how many connections at most, the listening one aside (default 8)",
    "notify": "on: announce changes and listen (default); send: announce only (default behind a pooler); off: neither",
    "pooler": "none (default); transaction: a pooler lends connections for one transaction at a time",
}

DRIVER_OPTIONS: Final = frozenset(
    {
        "application_name",
        "database",
        "dbname",
        "gsslib",
        "host",
        "krbsrvname",
        "passfile",
        "password",
        "port",
        "service",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "target_session_attrs",
        "user",
    }
)
"""What asyncpg itself reads from the URL: the options of libpq."""

SCHEMA_BYTES: Final = 55
"""PostgreSQL cuts names after 63 bytes, and the channel's is the schema's with 8 bytes before it."""

LEAST_CONNECTIONS: Final = 4
"""One each for what may have to wait: keyed jobs, jobs without a key, leases, and everything else."""


class Notify(StrEnum):
    """Whether changes are announced, and whether announcements are listened to."""

    ON = "on"
    SEND = "send"
    OFF = "off"


class Pooler(StrEnum):
    """What lies between here and the server. A transaction pooler keeps nothing of a session."""

    NONE = "none"
    TRANSACTION = "transaction"


@frozen(kw_only=True)
class Settings:
    """
    One storage's settings.

    Attributes:
        shown: The URL without its secrets, for messages.
        dsn: The URL as the driver reads it, password included.
        application_name: How the server's views name these connections.
        schema: The namespace.
        timeout: How long a call may take.
        connections: How many at most, the listening one aside.
        notify: Whether changes are announced and listened to.
        pooler: What lies between here and the server.
    """

    shown: str
    dsn: str = field(repr=False)
    application_name: str
    schema: str
    timeout: timedelta
    connections: int
    notify: Notify
    pooler: Pooler

    @property
    def channel(self) -> str:
        """Where changes are announced. Channels belong to the whole database, hence the schema in its name."""
        return f"pannier.{self.schema}"


def settings_of(url: StorageUrl) -> Settings:
    """
    Read *url*.

    Raises:
        ConfigurationError: It can't be read, or an option is unknown or has a bad value.
    """
    parts = url.parts
    url.check_options((*OPTIONS, *DRIVER_OPTIONS))
    _check_files(url)
    pooler = url.choice("pooler", default=Pooler.NONE)
    notify = url.choice("notify", default=Notify.ON if pooler is Pooler.NONE else Notify.SEND)
    if pooler is Pooler.TRANSACTION and notify is Notify.ON:
        raise ConfigurationError(
            f"{url} asks a transaction pooler for LISTEN, which needs a session; write notify=send, "
            f"or let workers connect to the server itself"
        )
    return Settings(
        shown=str(url),
        dsn=urlunsplit(("postgresql", parts.netloc, parts.path, _driver_query(parts.query), "")),
        application_name=url.options.get("application_name", "pannier"),
        schema=_schema(url),
        timeout=_seconds(url, "timeout", default=5.0),
        connections=_connections(url),
        notify=notify,
        pooler=pooler,
    )


def _check_files(url: StorageUrl) -> None:
    """Refuse the name of a file that can't be read: the driver's error is the one of a server that is not there."""
    for option in ("sslcert", "sslcrl", "sslkey", "sslrootcert"):
        path = url.options.get(option)
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigurationError(f"{option} in {url} names a file that can't be read: {url.quote(path)}")


def _driver_query(query: str) -> str:
    """Return *query* without the options that the driver would send to the server as settings."""
    options = filter(None, query.split("&"))
    return "&".join(option for option in options if unquote_plus(option.partition("=")[0]) not in OPTIONS)


def _schema(url: StorageUrl) -> str:
    schema = url.options.get("schema", "pannier")
    if not 0 < len(schema.encode("utf-8", "surrogatepass")) <= SCHEMA_BYTES or "\0" in schema:
        raise ConfigurationError(f"schema in {url} must have 1 to {SCHEMA_BYTES} bytes, not {url.quote(schema)}")
    return schema


def _connections(url: StorageUrl) -> int:
    text = url.options.get("connections", "8")
    if not text.isascii() or not text.isdecimal() or int(text) < LEAST_CONNECTIONS:
        raise ConfigurationError(
            f"connections in {url} must be a number of at least {LEAST_CONNECTIONS}, not {url.quote(text)}"
        )
    return int(text)


def _seconds(url: StorageUrl, option: str, *, default: float) -> timedelta:
    text = url.options.get(option, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.001 <= seconds <= 86_400:
        raise ConfigurationError(f"{option} in {url} must be a number of seconds up to a day, not {url.quote(text)}")
    return timedelta(seconds=seconds)
