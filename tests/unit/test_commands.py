"""Commands: what their result is, what their queue is called, and the id that some of them carry."""

import dataclasses
from typing import Generic, TypeVar
from uuid import uuid4

import attrs
import pytest

from pannier import Command, ConfigurationError, JobResult, TrackableJob
from pannier.commands import default_queue_id, result_type, set_tracking_id

T = TypeVar("T")


@attrs.frozen
class Plain(Command[str]):
    """An attrs class."""


@dataclasses.dataclass(frozen=True)
class Data(Command[int]):
    """A dataclass."""


class Generics(Command[list[T]], Generic[T]):
    """A generic command between."""


@attrs.frozen
class Closed(Generics[int]):
    """Its parameter goes through the class between."""


@attrs.frozen
class Forward(Command["Later"]):
    """Names its result before that exists."""


@attrs.frozen
class ForwardInside(Command[list["Later"]]):
    """Names it inside of another type."""


@attrs.frozen
class Later:
    """A result."""


@attrs.frozen
class Trackable(TrackableJob[JobResult[int]]):
    """Carries its id."""

    size: int = 0


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (Plain, str),
        (Data, int),
        (Closed, list[int]),
        (Forward, Later),
        (ForwardInside, list[Later]),
        (Trackable, JobResult[int]),
    ],
)
def test_the_result_is_what_the_base_says(command: type[Command[object]], result: object) -> None:
    """Through generic classes and forward references, wherever they stand."""
    assert result_type(command) == result


def test_a_command_without_a_parameter_is_refused() -> None:
    """`Command` alone doesn't say whether there is a result."""

    class Silent(Command):  # type: ignore[type-arg]  # the fault that the test is about
        """Says nothing."""

    with pytest.raises(ConfigurationError, match=r"derive it from Command\[\.\.\.\]"):
        result_type(Silent)


def test_an_unknown_forward_reference_is_named() -> None:
    """The message says which name of which command can't be resolved."""

    class Lost(Command["Nowhere"]):  # type: ignore[name-defined]  # the fault that the test is about
        """Names nothing."""

    with pytest.raises(ConfigurationError, match="Nowhere"):
        result_type(Lost)


def test_a_name_is_the_class_without_its_module() -> None:
    """Moving a command to another module changes nothing."""
    assert default_queue_id(Plain) == "Plain"


def test_a_class_made_inside_a_function_needs_a_name() -> None:
    """Its qualified name is not stable."""

    class Local(Command[None]):
        """Local."""

    with pytest.raises(ConfigurationError, match="name="):
        default_queue_id(Local)


def test_a_tracking_id_is_written_into_a_frozen_command_and_does_not_count_for_equality() -> None:
    """It is no field."""
    first, second, tracking_id = Trackable(), Trackable(), uuid4()

    set_tracking_id(first, tracking_id)

    assert first.tracking_id == tracking_id
    assert first == second


def test_a_command_that_was_not_queued_has_no_tracking_id() -> None:
    """The message says why."""
    with pytest.raises(AttributeError, match="before it is queued"):
        _ = Trackable().tracking_id


@pytest.mark.parametrize(("current", "total", "percent"), [(0, 3, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100)])
def test_a_percentage_is_rounded_down(current: int, total: int, percent: int) -> None:
    """As an integer division."""
    assert JobResult[int](total_steps=total, current_step=current).progress_percentage == percent


def test_without_steps_there_is_no_percentage() -> None:
    """Rather an error than a wrong number."""
    with pytest.raises(ValueError, match="total_steps"):
        _ = JobResult[int]().progress_percentage


@pytest.mark.parametrize(
    ("result", "is_complete"),
    [
        (JobResult[int](), False),
        (JobResult[int](total_steps=2, current_step=1), False),
        (JobResult[int](total_steps=2, current_step=2), True),
        (JobResult[int](total_steps=2, result=5), True),
    ],
)
def test_a_job_result_is_complete_with_its_steps_or_its_result(result: JobResult[int], is_complete: object) -> None:
    """Whichever comes first."""
    assert result.is_complete is is_complete
