"""A storage's URL, which never shows its password."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import field, frozen

from pannier.errors import ConfigurationError

T = TypeVar("T", bound=StrEnum)


@frozen
class StorageUrl:
    """
    Where a storage is. `repr` and `str` are redacted; adapters read `text`.

    Attributes:
        text: The URL as the user wrote it, password included. Never put it into a message.
    """

    text: str = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ConfigurationError(f"a storage URL must be a str, not {type(self.text).__name__}")
        if not self.scheme:
            raise ConfigurationError(
                "a storage URL begins with its scheme, such as 'sqlite:///jobs.db' or 'memory://'; this one has none"
            )

    @property
    def scheme(self) -> str:
        """What stands before "://", in lower case."""
        scheme, separator, _ = self.text.partition("://")
        return scheme.lower() if separator else ""

    @property
    def host(self) -> str:
        """What stands between "://" and the next "/", without user, password and options. May be empty."""
        return unquote(urlsplit(self.text).netloc.rpartition("@")[2])

    @property
    def path(self) -> str:
        """What stands after the host and its "/", percent-decoded, without options."""
        return unquote(urlsplit(self.text).path.removeprefix("/"))

    @property
    def options(self) -> Mapping[str, str]:
        """
        The query part. Each option at most once.

        Raises:
            ConfigurationError: An option stands there twice.
        """
        pairs = parse_qsl(urlsplit(self.text).query, keep_blank_values=True)
        options = dict(pairs)
        if len(options) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigurationError(f"the option {twice!r} stands twice in {self}")
        return options

    def seconds(self, option: str, *, default: timedelta) -> timedelta:
        """
        Return the duration that *option* gives in seconds, more than 0, or *default*.

        Raises:
            ConfigurationError: It gives something else.
        """
        text = self.options.get(option)
        if text is None:
            return default
        try:
            duration = timedelta(seconds=float(text))
        except (ValueError, OverflowError):
            raise ConfigurationError(f"{option} in {self} must be a number of seconds, not {text!r}") from None
        if duration <= timedelta(0):
            raise ConfigurationError(f"{option} in {self} must be more than 0 seconds, not {text!r}")
        return duration

    def choice(self, option: str, *, default: T) -> T:
        """
        Return which of the choices of *default*'s enum *option* names, or *default*.

        Raises:
            ConfigurationError: It names none of them.
        """
        text = self.options.get(option, default.value)
        try:
            return type(default)(text)
        except ValueError:
            choices = ", ".join(choice.value for choice in type(default))
            raise ConfigurationError(f"{option} in {self} must be one of {choices}, not {text!r}") from None

    def __str__(self) -> str:
        """
        The URL with passwords, and the values of options that name a secret, replaced by "***".

        Everything before the last "@" counts as credentials: a password may hold an unescaped "/" or "?", and showing
        too little is the safe mistake.
        """
        scheme, _, rest = self.text.partition("://")
        credentials, at, place = rest.rpartition("@")
        user, colon, _ = credentials.partition(":")
        before, question, query = place.partition("?")
        shown = "&".join(map(_redacted, query.split("&")))
        return f"{scheme}://{user}{colon}{'***' if colon else ''}{at}{before}{question}{shown}"

    def __repr__(self) -> str:
        return f"StorageUrl({str(self)!r})"

    def check_options(self, known: Collection[str]) -> None:
        """
        Refuse options that the adapter does not know: a misspelled one would silently do nothing.

        Raises:
            ConfigurationError: Names the option and lists the known ones.
        """
        for option in self.options:
            if option not in known:
                names = ", ".join(sorted(known)) or "none"
                raise ConfigurationError(f"{self} has an unknown option {option!r} (known: {names})")


def _redacted(option: str) -> str:
    name, equals, _ = option.partition("=")
    is_secret = any(word in name.lower() for word in ("pass", "secret", "token", "key", "credential"))
    return f"{name}{equals}***" if is_secret else option
