"""A storage's URL, which never shows its password."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit

from attrs import field, frozen

from pannier.errors import ConfigurationError

T = TypeVar("T", bound=StrEnum)

_SECRET: Final = ("pass", "pwd", "secret", "token", "key", "credential", "mechanismproperties")
"""What the name of an option has in it whose value is never shown; the last are MongoDB's, with tokens among them."""


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
        return unquote(self.parts.netloc.rpartition("@")[2])

    @property
    def path(self) -> str:
        """What stands after the host and its "/", percent-decoded, without options."""
        return unquote(self.parts.path.removeprefix("/"))

    @property
    def options(self) -> Mapping[str, str]:
        """
        The query part. Each option at most once.

        Raises:
            ConfigurationError: An option stands there twice, or the URL can't be read.
        """
        try:
            pairs = parse_qsl(self.parts.query, keep_blank_values=True)
        except ValueError:
            raise ConfigurationError(self._unreadable) from None
        options = dict(pairs)
        if len(options) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigurationError(f"the option {self.quote(twice)} stands twice in {self}")
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
            raise ConfigurationError(
                f"{option} in {self} must be a number of seconds, not {self.quote(text)}"
            ) from None
        if duration <= timedelta(0):
            raise ConfigurationError(f"{option} in {self} must be more than 0 seconds, not {self.quote(text)}")
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
            raise ConfigurationError(f"{option} in {self} must be one of {choices}, not {self.quote(text)}") from None

    @property
    def parts(self) -> SplitResult:
        """
        The URL's parts as `urllib.parse.urlsplit` tells them, passwords included.

        Raises:
            ConfigurationError: It can't be read.
        """
        try:
            return urlsplit(self.text)
        except ValueError:  # whose text may hold a part of the password
            raise ConfigurationError(self._unreadable) from None

    def quote(self, text: str) -> str:
        """
        Return *text*, a piece of the URL, as an error may show it: as asterisks where it may be of a password.

        It may where an "@" stands behind the host: then a password holds an unescaped "/", "?" or "#".
        """
        _, _, path, query, fragment = self.parts
        return "'***'" if "@" in path + query + fragment else repr(text)

    @property
    def _unreadable(self) -> str:
        return f"{self} can't be read; percent-encode what is special in it"

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
                raise ConfigurationError(f"{self} has an unknown option {self.quote(option)} (known: {names})")


def _redacted(option: str) -> str:
    name, equals, _ = option.partition("=")
    is_secret = any(word in unquote_plus(name).lower() for word in _SECRET)
    return f"{name}{equals}***" if is_secret else option
