"""What a test of the suite raises: a broken rule, worded for its reader, or the reason why it says nothing."""

import asyncio
import reprlib
import sysconfig
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import attrs

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


@attrs.define(eq=False)
class RuleBrokenError(AssertionError):
    """
    The storage broke the rule that the test is about. Only this counts as a catch.

    Attributes:
        promise: What was promised, in words.
        expected: What should have been seen.
        seen: What was seen.
    """

    promise: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{self.promise}\n    expected: {self.expected}\n    seen:     {self.seen}"


class BlockedError(Exception):
    """The test can't be run on this machine; the message says what is missing."""


class InconclusiveError(Exception):
    """The test ran, but never reached the state that it is about; the message says which."""


class _Repr(reprlib.Repr):
    """Shortens values; an integer of thousands of digits, for which repr() raises, is told by its size."""

    def repr_int(self, x: int, level: int) -> str:
        """Return a text of an integer."""
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f"<int of {x.bit_length()} bits>"


_SUITE: Final = Path(__file__).parent
_STANDARD_LIBRARY: Final = Path(sysconfig.get_path("stdlib"))
_MOST_PLACES: Final = 4

_REPR: Final = _Repr()
_REPR.maxstring = _REPR.maxother = 300
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxdict = 12
_REPR.maxlevel = 5


def show(value: object) -> str:
    """Return a short text of *value*: what differs is said by `differences` where it would be cut."""
    return _REPR.repr(value)


def differences(seen: object, expected: object) -> tuple[str, str]:
    """Return texts of both, only the fields that differ where they are values of one attrs class."""
    if type(seen) is type(expected) and attrs.has(type(seen)):
        names = [name for name in _fields(seen) if not same(getattr(seen, name), getattr(expected, name))]
        return (
            ", ".join(f"{name}={show(getattr(seen, name))}" for name in names),
            ", ".join(f"{name}={show(getattr(expected, name))}" for name in names),
        )
    return show(seen), show(expected)


def same(seen: object, expected: object) -> bool:
    """Whether both are equal, types too, all the way down: 1, 1.0 and True are three values, and -0.0 is not 0.0."""
    waiting = [(seen, expected)]
    while waiting:
        left, right = waiting.pop()
        if left is right:
            continue
        if type(left) is not type(right):
            return False
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            waiting += [(left[key], right[key]) for key in left]
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            if len(left) != len(right):
                return False
            waiting += zip(left, right, strict=True)
        elif attrs.has(type(left)):
            waiting += [(getattr(left, name), getattr(right, name)) for name in _fields(left)]
        elif isinstance(left, float):
            if repr(left) != repr(right):
                return False
        elif left != right:
            return False
    return True


def _fields(value: object) -> list[str]:
    return [field.name for field in attrs.fields(type(value))]  # type: ignore[arg-type]  # asked only of attrs values


class Checks:
    """
    The assertions of one trial. Each is counted; each that fails raises `RuleBrokenError`.

    Attributes:
        count: How many assertions were reached.
    """

    def __init__(self) -> None:
        self.count = 0

    def equal(self, seen: T, expected: T, promise: str) -> None:
        """Check that both are equal, exact types included."""
        self.count += 1
        if not same(seen, expected):
            shown = differences(seen, expected)
            raise RuleBrokenError(promise, shown[1], shown[0])

    def counts(self, seen: Iterable[Hashable], expected: Iterable[Hashable], promise: str) -> None:
        """Check that both hold the same things equally often, in any order; names what is lost and what is too many."""
        self.count += 1
        have, want = Counter(iter(seen)), Counter(iter(expected))  # a mapping counts as its keys
        if have != want:
            lost, extra = want - have, have - want
            raise RuleBrokenError(
                promise,
                f"{want.total()} in all, {len(want)} different",
                f"{have.total()} in all; {lost.total()} lost {show(list(lost))}; {extra.total()} too many "
                f"{show(dict(extra))}",
            )

    def true(self, condition: bool, promise: str, *, expected: str, seen: object) -> None:  # noqa: FBT001
        """Check any condition; *expected* says in words what should hold of *seen*."""
        self.count += 1
        if not condition:
            raise RuleBrokenError(promise, expected, seen if isinstance(seen, str) else show(seen))

    def fails(self, promise: str, *, expected: str, seen: object) -> NoReturn:
        """Say that the rule is broken."""
        self.count += 1
        raise RuleBrokenError(promise, expected, seen if isinstance(seen, str) else show(seen))

    async def answers(self, call: Awaitable[T], promise: str, *, within: timedelta = timedelta(seconds=20)) -> T:
        """Await *call* for a rule that forbids an error or a hang: either breaks the rule."""
        self.count += 1
        limit = asyncio.timeout(within.total_seconds())
        try:
            async with limit:
                return await call
        except (RuleBrokenError, BlockedError, InconclusiveError):
            raise
        except TimeoutError as error:
            if not limit.expired():
                raise RuleBrokenError(promise, "an answer", _describe(error)) from error
            raise RuleBrokenError(promise, f"an answer within {within.total_seconds():g} s", "it hung") from error
        except Exception as error:
            raise RuleBrokenError(promise, "an answer", _describe(error)) from error

    async def raises(
        self,
        kinds: type[E] | tuple[type[E], ...],
        call: Awaitable[object],
        promise: str,
        *,
        within: timedelta = timedelta(seconds=20),
    ) -> E:
        """Await *call*, which must raise one of *kinds*; return the error."""
        self.count += 1
        names = _names(kinds)
        limit = asyncio.timeout(within.total_seconds())
        try:
            async with limit:
                answer = await call
        except kinds as error:
            if isinstance(error, TimeoutError) and limit.expired():
                raise RuleBrokenError(promise, names, f"it hung for {within.total_seconds():g} s") from error
            return error
        except TimeoutError as error:
            seen = f"it hung for {within.total_seconds():g} s" if limit.expired() else _describe(error)
            raise RuleBrokenError(promise, names, seen) from error
        except Exception as error:
            raise RuleBrokenError(promise, names, _describe(error)) from error
        raise RuleBrokenError(promise, names, f"the answer {show(answer)}")

    def refuses(
        self, make: Callable[[], object], kinds: type[E] | tuple[type[E], ...], promise: str, *, naming: str = ""
    ) -> E:
        """Call *make*, which must raise one of *kinds* with *naming* in its message; return the error."""
        self.count += 1
        expected = _names(kinds) + (f" that names {naming!r}" if naming else "")
        try:
            made = make()
        except kinds as error:
            if naming not in str(error):
                raise RuleBrokenError(promise, expected, _describe(error)) from error
            return error
        except Exception as error:
            raise RuleBrokenError(promise, expected, _describe(error)) from error
        raise RuleBrokenError(promise, expected, f"{show(made)} was made")


def _names(kinds: type[BaseException] | tuple[type[BaseException], ...]) -> str:
    return " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


def _describe(error: BaseException) -> str:
    """Return what *error* says, and the lines that it came through, from the storage's verb to where it was raised."""
    said = f"{type(error).__qualname__}: {error}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_a_storage(Path(frame.filename))]
    places = [f"in {frame.name}, {Path(frame.filename).name}:{frame.lineno}" for frame in frames[-_MOST_PLACES:]]
    return f"{said} ({'; '.join(places)})" if places else said


def _is_of_a_storage(file: Path) -> bool:
    """Whether *file* is neither the suite's nor Python's own."""
    is_python_s = file.is_relative_to(_STANDARD_LIBRARY) and "site-packages" not in file.parts
    return not is_python_s and not file.is_relative_to(_SUITE)
