"""Jobs made together: each is what it would be alone, but for its id."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from attrs import evolve, frozen

from pannier import Command, HandlerRegistry, JobRecord, QueueOptions, TrackableJob
from pannier.clock import SystemClock
from pannier.codec import Codec, ConverterCodec
from pannier.commands import JobResult
from pannier.errors import EncodingError, InvalidJobError, UnregisteredCommandError
from pannier.ids import TrackingIds
from pannier.instants import MICROSECOND
from pannier.making import Expiry, JobMaker

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@frozen
class Work(Command[str]):
    """One kind of command."""

    path: str = "cat.png"


@frozen
class Keyed(Command[None]):
    """Another, which has a key."""

    key: str


@frozen(slots=False)
class Tracked(TrackableJob[JobResult[int]]):
    """One that carries its id."""


def _registry(codec: Codec | None = None) -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.declare(Work, codec=codec)
    registry.declare(Keyed, idempotency_key=lambda command: command.key)
    registry.declare(Tracked)
    return registry


def _path_of(command: Command[object]) -> Mapping[str, str]:
    return {"of": str(command)}


MAKER = JobMaker(
    ids=TrackingIds(SystemClock(), Random(1)), codec=ConverterCodec(), defaults=QueueOptions(), metadata=_path_of
)


def _together(
    commands: Sequence[Command[object]], *, registry: HandlerRegistry | None = None, metadata: object = None
) -> list[JobRecord]:
    return MAKER.make_many(
        commands,
        (registry or _registry()).get,
        now=NOW,
        resolution=timedelta(milliseconds=1),
        execute_after=NOW + MICROSECOND,
        expire_on=Expiry.DEFAULT,
        priority=7,
        metadata=metadata,  # type: ignore[arg-type]  # one test gives what is none
    )


def _alone(command: Command[object]) -> JobRecord:
    return MAKER.make(
        command,
        _registry().get(type(command)),
        now=NOW,
        resolution=timedelta(milliseconds=1),
        execute_after=NOW + MICROSECOND,
        expire_on=Expiry.DEFAULT,
        priority=7,
        idempotency_key=None,
        metadata={"tenant": "a"},
    )


def test_jobs_made_together_are_what_each_would_be_alone() -> None:
    """Kinds in any order, with a key or none, with what plugins and the caller keep beside them."""
    commands = [Work("a"), Keyed("k"), Work("b"), Keyed(""), Tracked(), Keyed("l"), Tracked(), Work("a")]
    made = _together(commands, metadata={"tenant": "a"})
    assert made == [evolve(_alone(one), tracking_id=job.tracking_id) for one, job in zip(commands, made, strict=True)]
    assert [job.tracking_id for job in made] == sorted({job.tracking_id for job in made})


def test_commands_made_together_carry_the_ids_of_their_own_jobs() -> None:
    """Before they are encoded, as the codec may ask."""
    commands = [Tracked(), Tracked(), Tracked()]
    made = _together(commands)
    assert [command.tracking_id for command in commands] == [job.tracking_id for job in made]


def test_jobs_made_together_share_no_metadata() -> None:
    """A record is its reader's own."""
    first, second, third = _together([Work(), Work(), Work()], metadata={"tenant": "a"})
    assert len({id(job.metadata) for job in (first, second, third)}) == 3


@pytest.mark.parametrize("position", [0, 1])
def test_a_bad_command_is_refused_wherever_it_stands(position: int) -> None:
    """Also after one of its kind that was good."""
    commands: list[Command[object]] = [Work(), Work()]
    commands[position] = Work(path=7)  # type: ignore[arg-type]  # the point
    with pytest.raises(EncodingError, match=r"expected str @ Work\.path"):
        _together(commands)


@pytest.mark.parametrize("number", [1, 2])
def test_metadata_that_is_no_text_is_refused(number: int) -> None:
    """With the command's name."""
    with pytest.raises(InvalidJobError, match="Work can't be queued: metadata"):
        _together([Work()] * number, metadata={"tenant": 7})


class _Faulty(ConverterCodec):
    """Writes the first command only."""

    def __init__(self, then: object) -> None:
        super().__init__()
        self._then = then
        self._written = 0

    def encode(self, value: object, declared: object) -> object:  # type: ignore[override]  # the point
        """Return what is no payload, or raise, from the second on."""
        self._written += 1
        if self._written == 1:
            return super().encode(value, declared)
        if isinstance(self._then, Exception):
            raise self._then
        return self._then


@pytest.mark.parametrize("then", ["{}", ValueError("full")])
def test_what_a_codec_does_wrong_with_a_later_command_is_seen(then: object) -> None:
    """As with the first one: what a plugin returns is checked."""
    with pytest.raises(InvalidJobError, match="Work can't be queued"):
        _together([Work(), Work()], registry=_registry(_Faulty(then)))  # type: ignore[arg-type]  # the point


def test_an_unknown_command_among_others_is_refused() -> None:
    """And nothing is made."""
    with pytest.raises(UnregisteredCommandError):
        MAKER.make_many(
            [Work()],
            HandlerRegistry().get,
            now=NOW,
            resolution=MICROSECOND,
            execute_after=None,
            expire_on=None,
            priority=0,
            metadata=None,
        )
