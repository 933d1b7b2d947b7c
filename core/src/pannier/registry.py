"""
The registry: which commands there are, and what handles each. It may be filled before any `JobQueues` exists.

One command has one handler, and one queue.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import is_dataclass
from datetime import timedelta
from types import NoneType
from typing import Any, Protocol, TypeAlias, TypeVar, Unpack, cast, overload

from attrs import evolve, field, frozen, has

from pannier.codec import Codec
from pannier.commands import Command, default_queue_id, result_type
from pannier.context import JobContext
from pannier.errors import ConfigurationError, UnregisteredCommandError
from pannier.handlers import ClassHandler, Handler, command_of, inspected
from pannier.options import QueueOptions, QueueOverrides

C = TypeVar("C", bound=Command[object])
K = TypeVar("K", bound=ClassHandler)
R = TypeVar("R")
T = TypeVar("T")

KeySelector: TypeAlias = Callable[[C], str | None]
"""Chooses a command's idempotency key; None or blank: no key."""

KeyLambda: TypeAlias = Callable[[Any], str | None]
"""The same beside a handler, whose command is not known yet: with any other type no checker lets a lambda pass."""


@frozen(kw_only=True)
class Registration:
    """
    Everything that is known of one command here.

    Attributes:
        command: Its class.
        result: The declared type of its result.
        queue_id: The stable name that its jobs are stored under.
        aliases: Older names that are consumed as well.
        options: What this queue has different from the defaults.
        handler: None where the command is only queued here.
        key: Chooses its idempotency key.
        codec: Its own codec, in place of the default.
    """

    command: type[Command[object]]
    result: object
    queue_id: str
    aliases: tuple[str, ...] = ()
    options: QueueOverrides = field(factory=QueueOverrides)
    handler: Handler | None = None
    key: KeySelector[Command[object]] | None = None
    codec: Codec | None = None

    @property
    def queue_ids(self) -> tuple[str, ...]:
        """The queue's name and its aliases."""
        return (self.queue_id, *self.aliases)

    @property
    def has_result(self) -> bool:
        """Whether the command declares a result."""
        return self.result is not NoneType

    def queue_options(self, defaults: QueueOptions) -> QueueOptions:
        """Return *defaults* with this registration's overrides."""
        return evolve(defaults, **self.options)

    def expire_after(self, defaults: QueueOptions) -> timedelta | None:
        """Return what `queue_options` says of it. Asked for each job: making all options takes 2 us more."""
        return self.options.get("expire_after", defaults.expire_after)


class HandlerDecorator(Protocol):
    """Registers what it decorates and returns it unchanged."""

    @overload
    def __call__(self, handler: type[K]) -> type[K]: ...

    @overload
    def __call__(self, handler: Callable[[C], T]) -> Callable[[C], T]: ...

    @overload
    def __call__(
        self, handler: Callable[[C, JobContext[R]], Awaitable[R]]
    ) -> Callable[[C, JobContext[R]], Awaitable[R]]: ...

    @overload
    def __call__(self, handler: Callable[[C, JobContext[R]], R]) -> Callable[[C, JobContext[R]], R]: ...


class HandlerRegistry:
    """A collection of commands and their handlers. An instance, passed to `JobQueues`; there is no global one."""

    def __init__(self) -> None:
        self._by_command: dict[type, Registration] = {}
        self._by_queue: dict[str, Registration] = {}

    def handler(
        self,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        idempotency_key: KeyLambda | None = None,
        codec: Codec | None = None,
        **options: Unpack[QueueOverrides],
    ) -> HandlerDecorator:
        """
        Register the decorated function or class as the handler of the command that its first parameter names.

        Args:
            name: The stable name of the queue; by default the command's qualified name without its module.
            aliases: Older names of the queue that are consumed as well.
            idempotency_key: Chooses the key by which a second job of the same meaning is recognised.
            codec: A codec for this command in place of the default.
            **options: Overrides of `QueueOptions` for this queue, such as `max_concurrency=4`.

        Raises:
            ConfigurationError: The signature doesn't fit a command, the command has a handler already, a name is taken.
        """

        def register(handler: Callable[..., object]) -> Callable[..., object]:
            self._add(
                _registration(
                    command_of(handler),
                    name=name,
                    aliases=aliases,
                    key=idempotency_key,
                    codec=codec,
                    options=options,
                    handler=handler,
                )
            )
            return handler

        return cast("HandlerDecorator", register)

    def declare(
        self,
        command: type[C],
        *,
        name: str | None = None,
        idempotency_key: KeySelector[C] | None = None,
        codec: Codec | None = None,
        expire_after: timedelta | None = timedelta(hours=4),
    ) -> None:
        """
        Make *command* known where it is only queued and tracked, not handled.

        Raises:
            ConfigurationError: It is known already, or its name is taken.
        """
        self._add(
            _registration(
                command,
                name=name,
                aliases=(),
                key=cast("KeySelector[Command[object]] | None", idempotency_key),
                codec=codec,
                options={"expire_after": expire_after},
                handler=None,
            )
        )

    def include(self, other: "HandlerRegistry") -> None:
        """
        Take over everything that *other* holds now.

        Raises:
            ConfigurationError: A command or name is known already.
        """
        for registration in other:
            self._add(registration)

    def __iter__(self) -> Iterator[Registration]:
        return iter(tuple(self._by_command.values()))

    def get(self, command: type) -> Registration:
        """
        Return what is known of *command*.

        Raises:
            UnregisteredCommandError: Nothing is.
        """
        registration = self._by_command.get(command)
        if registration is None:
            raise UnregisteredCommandError(command, tuple(sorted(self._by_queue)))
        return registration

    def of_queue(self, queue_id: str) -> Registration | None:
        """Return the registration whose name or alias is *queue_id*."""
        return self._by_queue.get(queue_id)

    def _add(self, new: Registration) -> None:
        known = self._by_command.get(new.command)
        if known is not None:
            raise ConfigurationError(
                f"{new.command.__qualname__} is registered already"
                + (f", with the handler {known.handler.target.__qualname__}" if known.handler else "")
                + "; a command has one handler"
            )
        for queue_id in new.queue_ids:
            if queue_id in self._by_queue:
                other = self._by_queue[queue_id].command
                raise ConfigurationError(
                    f"the queue name {queue_id!r} of {new.command.__module__}.{new.command.__qualname__} is taken by "
                    f"{other.__module__}.{other.__qualname__}; give one of them another with name="
                )
        self._by_command[new.command] = new
        self._by_queue.update(dict.fromkeys(new.queue_ids, new))


def _registration(
    command: type[Command[object]],
    *,
    name: str | None,
    aliases: Iterable[str],
    key: KeySelector[Command[object]] | None,
    codec: Codec | None,
    options: QueueOverrides,
    handler: Callable[..., object] | None,
) -> Registration:
    if not (isinstance(command, type) and issubclass(command, Command)):
        raise ConfigurationError(f"{command!r} is no command; derive it from pannier.Command")
    for option in options:
        if option not in QueueOverrides.__annotations__:
            known = ", ".join(QueueOverrides.__annotations__)
            raise ConfigurationError(f"unknown option {option!r} for {command.__qualname__} (known: {known})")
    evolve(QueueOptions(), **options)  # refuses a bad value here, where it was written
    if codec is None and not (has(command) or is_dataclass(command)):
        raise ConfigurationError(
            f"{command.__qualname__} is neither an attrs class nor a dataclass; decorate it with @attrs.frozen, "
            f"or give it a codec="
        )
    result = result_type(command)
    queue_id = _checked_name(name) if name is not None else default_queue_id(command)
    return Registration(
        command=command,
        result=result,
        queue_id=queue_id,
        aliases=_checked_aliases(aliases, queue_id),
        options=options,
        handler=None if handler is None else inspected(handler, command, result),
        key=key,
        codec=codec,
    )


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise ConfigurationError(f"a queue's name has 1 to 255 characters; {name!r} has not")
    return name


def _checked_aliases(aliases: Iterable[str], queue_id: str) -> tuple[str, ...]:
    if isinstance(aliases, str):
        raise ConfigurationError(f"aliases are a list of names, not one name; write aliases=[{aliases!r}]")
    checked = tuple(map(_checked_name, aliases))
    if len({queue_id, *checked}) <= len(checked):
        raise ConfigurationError(f"aliases {checked!r} name a queue twice, or {queue_id!r} itself")
    return checked
