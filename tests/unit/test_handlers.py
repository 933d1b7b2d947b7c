"""Handlers: what may be registered, and what is said of the rest."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from attrs import frozen

from pannier import Command, ConfigurationError, HandlerRegistry, JobContext, QueueOptions
from pannier.errors import UnregisteredCommandError
from pannier.handlers import HandlerKind


@frozen
class Work(Command[str]):
    """Has a result."""


@frozen
class Maybe(Command[int | None]):
    """Has a result, or None."""


@frozen
class Ping(Command[None]):
    """Has none."""


class Bare(Command[None]):
    """Neither an attrs class nor a dataclass."""


@pytest.fixture
def registry() -> HandlerRegistry:
    """An empty registry."""
    return HandlerRegistry()


def ignore(handler: object, **options: Any) -> Callable[[HandlerRegistry], object]:
    """Return what registers *handler*, past the type checker."""
    return lambda registry: registry.handler(**options)(handler)  # type: ignore[call-overload]  # faults on purpose


async def fine(command: Work) -> str:
    return ""


async def with_context(command: Work, job: JobContext[str]) -> str:
    return ""


def in_thread(command: Work) -> str:
    return ""


class InClass:
    """A class handler."""

    async def execute(self, command: Work, job: JobContext[str]) -> str:
        return ""


@pytest.mark.parametrize(
    ("handler", "kind", "takes_context"),
    [
        (fine, HandlerKind.ASYNC, False),
        (with_context, HandlerKind.ASYNC, True),
        (in_thread, HandlerKind.THREAD, False),
        (InClass, HandlerKind.ASYNC, True),
        (InClass().execute, HandlerKind.ASYNC, True),
    ],
)
def test_functions_methods_and_classes_are_handlers(
    registry: HandlerRegistry, handler: object, kind: HandlerKind, takes_context: object
) -> None:
    """Async ones run on the loop, the others in threads; the context is optional."""
    ignore(handler)(registry)

    found = registry.get(Work).handler

    assert found is not None
    assert (found.kind, found.takes_context) == (kind, takes_context)


async def takes_nothing() -> str:
    return ""


async def takes_three(command: Work, job: JobContext[str], more: int) -> str:
    return ""


async def takes_keyword(command: Work, *, job: JobContext[str]) -> str:
    return ""


async def not_annotated(command) -> str:  # type: ignore[no-untyped-def]  # the fault
    return ""


async def not_a_command(command: int) -> str:
    return ""


async def wrong_result(command: Work) -> int:
    return 1


async def result_of_none(command: Ping) -> int:
    return 1


async def generates(command: Work) -> AsyncIterator[str]:
    yield ""


def generates_in_thread(command: Work) -> Iterator[str]:
    yield ""


class WithoutExecute:
    """Has no method execute."""


class CallableObject:
    """An object that can be called."""

    async def __call__(self, command: Work) -> str:
        return ""


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (takes_nothing, "must take"),
        (takes_three, "must take"),
        (takes_keyword, "must take"),
        (not_annotated, "must be annotated"),
        (not_a_command, "must be annotated with a Command class"),
        (wrong_result, "declares <class 'str'>"),
        (result_of_none, "returns <class 'int'>"),
        (generates, "is a generator"),
        (generates_in_thread, "is a generator"),
        (WithoutExecute, "has no method 'execute'"),
        (CallableObject(), "wrap it in a function"),
        (functools.partial(fine), "wrap it in a function"),
        (5, "not 5"),
    ],
)
def test_what_can_be_no_handler_is_refused_with_the_reason(
    registry: HandlerRegistry, handler: object, message: str
) -> None:
    """At registration, before any job is touched."""
    with pytest.raises(ConfigurationError, match=message):
        ignore(handler)(registry)
    assert list(registry) == []


async def gives_int(command: Maybe) -> int:
    return 1


async def gives_either(command: Maybe) -> int | None:
    return None


async def gives_anything(command: Work) -> Any:
    return ""


async def gives_nothing_back(command: Work) -> NoReturn:
    raise ValueError


async def says_nothing(command: Work):  # type: ignore[no-untyped-def]  # not every program is typed
    return ""


@pytest.mark.parametrize("handler", [gives_int, gives_either, gives_anything, gives_nothing_back, says_nothing])
def test_a_handler_may_promise_less_or_more_than_its_command(registry: HandlerRegistry, handler: object) -> None:
    """What it returns must fit the declared result; the codec looks at the value itself."""
    ignore(handler)(registry)
    assert len(list(registry)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurency": 3}, "unknown option 'max_concurency'"),
        ({"max_concurrency": 0}, "max_concurrency must be at least 1"),
        ({"max_concurrency": "3"}, "max_concurrency must be an int"),
        ({"prefetch": -1}, "prefetch must be at least 0"),
        ({"time_limit": timedelta(0)}, "time_limit must be more than 0"),
        ({"time_limit": 30}, "time_limit must be a timedelta"),
        ({"expire_after": timedelta(-1)}, "expire_after must be more than 0"),
        ({"retry": 3}, "retry must be a RetryPolicy"),
        ({"name": ""}, "1 to 255 characters"),
        ({"name": "x" * 256}, "1 to 255 characters"),
        ({"aliases": "old"}, "not one name"),
        ({"aliases": ["Work"]}, "twice"),
        ({"aliases": ["old", "old"]}, "twice"),
    ],
)
def test_bad_options_are_refused_where_they_are_written(
    registry: HandlerRegistry, options: dict[str, object], message: str
) -> None:
    """And named."""
    with pytest.raises(ConfigurationError, match=message):
        ignore(fine, **options)(registry)


def test_a_command_has_one_handler(registry: HandlerRegistry) -> None:
    """The message names the first one."""
    registry.handler()(fine)
    with pytest.raises(ConfigurationError, match="with the handler fine"):
        registry.handler()(in_thread)


def test_two_commands_of_one_name_are_refused(registry: HandlerRegistry) -> None:
    """A name is taken once, whether as a name or as an alias."""
    registry.handler(aliases=["old"])(fine)
    with pytest.raises(ConfigurationError, match=r"'old' .* is taken by"):
        registry.declare(Ping, name="old")


def test_a_class_without_fields_that_are_known_is_refused(registry: HandlerRegistry) -> None:
    """A forgotten decorator shows at registration, not when the first job is queued."""
    with pytest.raises(ConfigurationError, match=r"decorate it with @attrs\.frozen"):
        registry.declare(Bare)


def test_an_unknown_command_names_those_that_are_known(registry: HandlerRegistry) -> None:
    """With what to do next."""
    registry.handler()(fine)
    with pytest.raises(UnregisteredCommandError, match=r"'Ping' \(registered: Work\); give it a handler"):
        registry.get(Ping)


def test_a_registry_takes_over_what_another_holds(registry: HandlerRegistry) -> None:
    """So that handlers are collected before any `JobQueues` exists."""
    other = HandlerRegistry()
    other.handler(aliases=["old"])(fine)

    registry.include(other)

    assert registry.of_queue("old") is registry.get(Work)


def test_a_queue_has_the_defaults_less_its_own_options(registry: HandlerRegistry) -> None:
    """Overrides are by name."""
    registry.handler(max_concurrency=3)(fine)

    options = registry.get(Work).queue_options(QueueOptions(max_concurrency=9, prefetch=5))

    assert (options.max_concurrency, options.prefetch) == (3, 5)
