"""Settings: what the URL says."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import frozen

from pannier.errors import ConfigurationError
from pannier.urls import StorageUrl

OPTIONS: Final[Mapping[str, str]] = {
    "timeout": "seconds to wait for another program that holds the file's lock, then StorageBusyError (default 5)",
    "synchronous": "full: a commit survives the loss of power (default); normal: it survives every crash of a process",
    "watch": "auto: watch the file for changes where the system can (default); poll: look every 20 ms",
}


class Synchronous(StrEnum):
    """
    When a commit is on the disk.

    https://www.sqlite.org/pragma.html#pragma_synchronous
    """

    FULL = "full"
    NORMAL = "normal"


class Watch(StrEnum):
    """How changes made by other processes are noticed."""

    AUTO = "auto"
    POLL = "poll"


@frozen(kw_only=True)
class Settings:
    """
    One storage's settings.

    Attributes:
        path: The database file, absolute.
        timeout: How long to wait for another program's lock.
        synchronous: When a commit is on the disk.
        watch: How changes made by other processes are noticed.
    """

    path: Path
    timeout: timedelta
    synchronous: Synchronous
    watch: Watch

    @property
    def timeout_seconds(self) -> float:
        """The timeout in seconds."""
        return self.timeout.total_seconds()


def settings_of(url: StorageUrl) -> Settings:
    """
    Read *url*.

    Raises:
        ConfigurationError: It has a host or no path, or an option is unknown or has a bad value.
    """
    url.check_options(OPTIONS)
    if url.host:
        raise ConfigurationError(
            f"{url} names a host; write sqlite:///{url.quote(url.host)[1:-1]} for a relative path, "
            f"sqlite:////... for an absolute one"
        )
    if not url.path or url.path == ":memory:" or "\0" in url.path:
        raise ConfigurationError(f"{url} names no file; write sqlite:///jobs.db, or memory:// for jobs in memory")
    return Settings(
        path=Path(url.path).absolute(),
        timeout=url.seconds("timeout", default=timedelta(seconds=5)),
        synchronous=url.choice("synchronous", default=Synchronous.FULL),
        watch=url.choice("watch", default=Watch.AUTO),
    )
