"""
Commands: what a job is asked to do, as a typed value.

A command is an attrs class or a dataclass that names its result in its base: `class Resize(Command[str])`. Nothing here
knows about queues or storage.
"""

import sys
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from attrs import define, field

from pannier.errors import ConfigurationError

R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)  # JobResult is mutable, yet a JobResult[int] is to be had as a JobResult[object]


class Command(Generic[R_co]):
    """
    The base of every command; the parameter is the type of its result. `Command[None]` has no result.

    Subclasses are attrs classes (`@frozen`) or dataclasses. Their fields are what is stored.
    """

    __slots__ = ()


@define
class JobResult(Generic[T_co]):
    """
    A result that shows its progress while it comes into being. The one mutable value of pannier.

    A handler of a `TrackableJob[JobResult[int]]` creates one, moves `current_step` and `current_status` on, stores
    it with `JobTracker.store_job_result` as often as it likes, and at last sets `result` and returns it.

    Attributes:
        total_steps: How many steps there are; 0: unknown.
        current_step: How many are done.
        current_status: What is being done, for people.
        result: The result proper, once there is one.
    """

    total_steps: int = 0
    current_step: int = 0
    current_status: str | None = None
    result: T_co | None = field(default=None)

    @property
    def progress_percentage(self) -> int:
        """
        The steps done, in whole percent, rounded down.

        Raises:
            ValueError: `total_steps` is 0, so that there is no percentage.
        """
        if self.total_steps == 0:
            raise ValueError("progress_percentage needs total_steps; it is 0")
        return self.current_step * 100 // self.total_steps

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done, or the result is set."""
        return self.result is not None or (0 < self.total_steps <= self.current_step)


J_co = TypeVar("J_co", bound=JobResult[object], covariant=True)


class TrackableJob(Command[J_co]):
    """
    A command that carries its own tracking id, for handlers that report by it: `TrackableJob[JobResult[int]]`.

    The id is no field: it is not stored with the command, and does not count for equality.
    """

    __slots__ = ("_tracking_id",)

    @property
    def tracking_id(self) -> UUID:
        """
        The id of the job that this command became.

        Raises:
            AttributeError: It has not been queued yet.
        """
        try:
            tracking_id: UUID = object.__getattribute__(self, "_tracking_id")
        except AttributeError:
            raise AttributeError(f"{type(self).__qualname__} has no tracking id before it is queued") from None
        return tracking_id


def set_tracking_id(command: Command[object], tracking_id: UUID) -> None:
    """Write *tracking_id* into *command*, if it carries one. Works on frozen classes."""
    if isinstance(command, TrackableJob):
        object.__setattr__(command, "_tracking_id", tracking_id)


def result_type(command: type[Command[object]]) -> object:
    """
    Return the R of the `Command[R]` that *command* derives from, through any generic classes between.

    Raises:
        ConfigurationError: It names none, or a name that can't be resolved.
    """
    found = _parameter_of_command(command, {})
    if found is None or isinstance(found, TypeVar):
        raise ConfigurationError(
            f"{command.__qualname__} doesn't say what its result is; derive it from Command[...], "
            f"or from Command[None] if it has none"
        )
    return type(None) if found is None else found


def default_queue_id(command: type[Command[object]]) -> str:
    """
    Return the qualified name of *command* without its module, so that moving it between modules changes nothing.

    Raises:
        ConfigurationError: It was made inside a function; such a name is not stable.
    """
    if "<locals>" in command.__qualname__:
        raise ConfigurationError(
            f"{command.__qualname__} is made inside a function, so it has no stable name; give it one with name="
        )
    return command.__qualname__


def _parameter_of_command(cls: type, known: dict[object, object]) -> object | None:
    for base in getattr(cls, "__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not isinstance(origin, type) or not issubclass(origin, Command):
            continue
        arguments = [_filled_in(argument, known) for argument in get_args(base)]
        if origin is Command:
            return _resolved(arguments[0], cls) if arguments else None
        parameters: tuple[object, ...] = getattr(origin, "__parameters__", ())
        found = _parameter_of_command(origin, dict(zip(parameters, arguments, strict=False)))
        if found is not None:
            return _resolved(found, cls)
    return None


def _filled_in(argument: object, known: Mapping[object, object]) -> object:
    """Put what is *known* of type variables into *argument*, which is one or holds some: `list[T]`."""
    if isinstance(argument, TypeVar):
        return known.get(argument, argument)
    parameters: tuple[object, ...] = getattr(argument, "__parameters__", ())
    if not parameters or isinstance(argument, type):
        return argument
    generic = cast("_Subscriptable", argument)
    return generic[tuple(known.get(parameter, parameter) for parameter in parameters)]


class _Subscriptable(Protocol):
    def __getitem__(self, arguments: tuple[object, ...], /) -> object: ...


def _resolved(argument: object, cls: type) -> object:
    """Turn forward references (`Command["Thumbnail"]`, `Command[list["Thumbnail"]]`) into what they name."""
    if isinstance(argument, TypeVar):
        return argument

    def holder() -> None:
        """Carry an annotation: `typing` resolves those only."""

    holder.__annotations__ = {"result": argument}
    try:
        return get_type_hints(holder, vars(sys.modules[cls.__module__]))["result"]
    except NameError as error:
        raise ConfigurationError(
            f"the result type {argument!r} of {cls.__qualname__} can't be resolved: {error}"
        ) from error
