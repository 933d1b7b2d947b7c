"""
Handlers: what executes a command, looked at once.

A handler is an async function, a plain function (run in a thread) or a class with an `execute` method, built anew for
each execution by a `Resolver`.
"""

import inspect
from collections.abc import Callable
from enum import StrEnum
from types import UnionType
from typing import Any, Final, Never, NoReturn, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from attrs import frozen

from pannier.commands import Command
from pannier.errors import ConfigurationError

T = TypeVar("T")

_UNIONS: Final = frozenset({Union, UnionType})


class ClassHandler(Protocol):
    """A class whose instances execute a command: `async def execute(self, command, job)`, or a plain `def`."""

    @property
    def execute(self) -> Callable[..., object]:
        """The method that does the work."""
        ...


class Resolver(Protocol):
    """Builds an instance of a class handler for one execution; where a DI container fits in."""

    def __call__(self, handler: type[T], /) -> T:
        """Return a new *handler*."""
        ...


class HandlerKind(StrEnum):
    """How a handler is run."""

    ASYNC = "async"
    THREAD = "thread"


@frozen(kw_only=True)
class Handler:
    """
    A handler, looked at once.

    Attributes:
        target: The function or class.
        kind: How it is run.
        takes_context: Whether it wants the `JobContext` as a second argument.
    """

    target: Callable[..., object]
    kind: HandlerKind
    takes_context: bool

    @property
    def is_class(self) -> bool:
        """Whether an instance must be built first."""
        return isinstance(self.target, type)


def inspected(target: Callable[..., object], command: type, result: object) -> Handler:
    """
    Look at *target*, which is to execute *command*, whose declared result is *result*.

    Raises:
        ConfigurationError: Its signature doesn't fit.
    """
    function = _function_of(target)
    parameters = _positional(function, is_method=isinstance(target, type))
    declared = _hints(function).get("return", result)
    if not _fits(declared, result):
        raise ConfigurationError(
            f"handler {target.__qualname__} returns {declared!r}, but {command.__qualname__} declares {result!r}"
        )
    kind = HandlerKind.ASYNC if inspect.iscoroutinefunction(function) else HandlerKind.THREAD
    return Handler(target=target, kind=kind, takes_context=len(parameters) == 2)


def command_of(target: Callable[..., object]) -> type[Command[object]]:
    """
    Return the command that the first parameter of *target* names.

    Raises:
        ConfigurationError: It names none, or *target* is no handler.
    """
    function = _function_of(target)
    parameters = _positional(function, is_method=isinstance(target, type))
    annotation = _hints(function).get(parameters[0].name)
    if not (isinstance(annotation, type) and issubclass(annotation, Command)):
        raise ConfigurationError(
            f"the first parameter of handler {target.__qualname__} must be annotated with a Command class, "
            f"not {annotation!r}"
        )
    return annotation


def _function_of(target: Callable[..., object]) -> Callable[..., object]:
    if not callable(target):
        raise ConfigurationError(f"a handler is a function or a class with an execute method, not {target!r}")
    if not isinstance(target, type):
        if not inspect.isroutine(target):
            raise ConfigurationError(
                f"a handler is a function or a class with an execute method, not a {type(target).__qualname__}; "
                f"wrap it in a function"
            )
        return _checked_function(target)
    function = getattr(target, "execute", None)
    if function is None:
        raise ConfigurationError(f"handler class {target.__qualname__} has no method 'execute'")
    return _checked_function(function)


def _checked_function(function: Callable[..., object]) -> Callable[..., object]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"handler {function.__qualname__} is a generator, it must return its result")
    return function


def _positional(function: Callable[..., object], *, is_method: bool) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())[is_method:]
    if not 1 <= len(parameters) <= 2 or any(
        p.kind not in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters
    ):
        raise ConfigurationError(
            f"handler {function.__qualname__} must take (command) or (command, job), not {inspect.signature(function)}"
        )
    return parameters


def _hints(function: Callable[..., object]) -> dict[str, object]:
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ConfigurationError(
            f"the annotations of handler {function.__qualname__} can't be resolved ({error}); "
            f"import the names outside of TYPE_CHECKING"
        ) from error


def _fits(declared: object, result: object) -> bool:
    """Whether a handler annotated to return *declared* may serve a command whose result is *result*."""
    if declared == result or declared in {Any, object, Never, NoReturn}:
        return True
    if get_origin(declared) in _UNIONS:
        return all(_fits(member, result) for member in get_args(declared))
    if get_origin(result) in _UNIONS:
        return any(_fits(declared, member) for member in get_args(result))
    if isinstance(declared, type) and isinstance(result, type) and not get_args(declared):
        return issubclass(declared, result)
    return get_origin(declared) is not None and get_origin(declared) == get_origin(result)
