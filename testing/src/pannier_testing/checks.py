"""What a test of the suite raises: a broken rule, worded for its reader, or the reason why it says nothing."""

import reprlib
from typing import Final

import attrs


@attrs.define(eq=False)
class RuleBroken(AssertionError):
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


class Blocked(Exception):  # noqa: N818  # a verdict on the test, no error of the storage
    """The test can't be run on this machine; the message says what is missing."""


class Inconclusive(Exception):  # noqa: N818  # likewise
    """The test ran, but never reached the state that it is about; the message says which."""


_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 300
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxdict = 12
_REPR.maxlevel = 5


def show(value: object) -> str:
    """Return a short text of *value*: what differs is said by `differences` where it would be cut."""
    return _REPR.repr(value)


def differences(seen: object, expected: object) -> tuple[str, str]:
    """Return texts of both, only the fields that differ where they are values of one attrs class."""
    if type(seen) is type(expected) and attrs.has(type(seen)):
        names = [f.name for f in attrs.fields(type(seen)) if not same(getattr(seen, f.name), getattr(expected, f.name))]
        return (
            ", ".join(f"{name}={show(getattr(seen, name))}" for name in names),
            ", ".join(f"{name}={show(getattr(expected, name))}" for name in names),
        )
    return show(seen), show(expected)


def same(seen: object, expected: object) -> bool:
    """Whether both are equal and of the same types all the way down: 1, 1.0 and True are three values, and -0.0 is not 0.0."""
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
            waiting += [(getattr(left, f.name), getattr(right, f.name)) for f in attrs.fields(type(left))]
        elif isinstance(left, float):
            if repr(left) != repr(right):
                return False
        elif left != right:
            return False
    return True
