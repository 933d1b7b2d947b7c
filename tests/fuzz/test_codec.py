"""
The codec: what it writes is read back exactly, through JSON text too, or it is refused; so is what is no such value.

A long run: `PANNIER_FUZZ_EXAMPLES=100000 pytest tests/fuzz/test_codec.py`. With PANNIER_FUZZ_RECORD=reliability/trials
it leaves the records that RELIABILITY.md is made from.
"""

import enum
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import pytest
from attrs import frozen
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pannier import jsontext
from pannier.codec import ConverterCodec
from pannier.errors import DecodingError, EncodingError
from pannier.records import Json, Payload

EXAMPLES: Final = int(os.environ.get("PANNIER_FUZZ_EXAMPLES", "300"))
FUZZ: Final = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
LONG: Final = pytest.mark.timeout(0 if "PANNIER_FUZZ_EXAMPLES" in os.environ else 120)

CODEC: Final = ConverterCodec()


class Colour(enum.Enum):
    """Members of several kinds."""

    RED = "red"
    ONE = 1
    NONE = None


class Level(enum.IntEnum):
    """Members that are numbers, too."""

    LOW = 0
    HIGH = 2**64


@frozen
class Inner:
    """A part of a command."""

    text: str
    at: datetime
    spans: tuple[timedelta, ...]


@frozen
class Outer:
    """What a command may look like."""

    number: int
    ratio: float
    is_so: bool
    amount: Decimal
    key: UUID
    day: date
    colour: Colour
    level: Level
    raw: bytes
    maybe: int | None
    either: int | str
    inner: Inner
    inners: list[Inner]
    by_name: dict[str, Inner | None]


WORDS = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates and NUL included
NUMBERS = st.integers() | st.sampled_from([2**53 + 1, 2**63, 2**64, -(2**64), 10**400])
RATIOS = st.floats() | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308])
INSTANTS = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0))  # which says nothing in UTC
SPANS = st.timedeltas()
INNERS = st.builds(Inner, text=WORDS, at=INSTANTS, spans=st.lists(SPANS, max_size=3).map(tuple))
OUTERS = st.builds(
    Outer,
    number=NUMBERS,
    ratio=RATIOS,
    is_so=st.booleans(),
    amount=st.decimals(allow_nan=False),
    key=st.uuids(),
    day=st.dates(),
    colour=st.sampled_from(Colour),
    level=st.sampled_from(Level),
    raw=st.binary(max_size=20),
    maybe=st.none() | NUMBERS,
    either=NUMBERS | WORDS,
    inner=INNERS,
    inners=st.lists(INNERS, max_size=3),
    by_name=st.dictionaries(WORDS, st.none() | INNERS, max_size=3),
)
TREES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | NUMBERS | RATIOS | WORDS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(WORDS, below, max_size=4),
    max_leaves=15,
)
DECLARED: Mapping[object, st.SearchStrategy[object]] = {
    int: NUMBERS,
    float: RATIOS,
    str: WORDS,
    bool: st.booleans(),
    bytes: st.binary(max_size=50),
    UUID: st.uuids(),
    Decimal: st.decimals(),
    datetime: INSTANTS,
    date: st.dates(),
    timedelta: SPANS,
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    list[int]: st.lists(NUMBERS, max_size=5),
    tuple[str, ...]: st.lists(WORDS, max_size=5).map(tuple),
    dict[str, float]: st.dictionaries(WORDS, RATIOS, max_size=5),
    int | None: st.none() | NUMBERS,
    str | int: NUMBERS | WORDS,
    Inner: INNERS,
    Outer: OUTERS,
}
PAIRS = st.sampled_from(list(DECLARED)).flatmap(lambda declared: st.tuples(st.just(declared), DECLARED[declared]))
ANYTHING = st.one_of(*DECLARED.values(), TREES)


def round_trip(value: object, declared: object) -> object:
    """Encode *value*, take the payload through JSON text as the storages do, and decode it."""
    payload = CODEC.encode(value, declared)
    assert not isinstance(payload.data, bytes)
    return CODEC.decode(Payload(jsontext.load(jsontext.dump(payload.data)), payload.encoding), declared)


@LONG
@FUZZ
@given(PAIRS)
def test_a_value_of_its_declared_type_is_read_back_exactly_or_refused(
    tally: Counter[str], pair: tuple[object, object]
) -> None:
    """To the type and the sign of zero; refused is what JSON has no form for, such as NaN."""
    declared, value = pair
    try:
        again = round_trip(value, declared)
    except (EncodingError, ValueError):  # the latter from JSON text: thousands of digits, joined surrogates
        tally["refused"] += 1
        return
    assert again == value
    assert repr(again) == repr(value)
    tally["exact"] += 1


@LONG
@FUZZ
@given(st.sampled_from(list(DECLARED)), ANYTHING)
def test_a_value_of_another_type_is_read_back_exactly_or_refused(
    tally: Counter[str], declared: object, value: object
) -> None:
    """Nothing is bent into the declared type."""
    try:
        again = round_trip(value, declared)
    except (EncodingError, ValueError):
        tally["refused"] += 1
        return
    assert again == value
    tally["exact"] += 1


@LONG
@FUZZ
@given(st.sampled_from(list(DECLARED)), TREES | st.binary(max_size=50), st.sampled_from(["json", "json+x", "pickle"]))
def test_whatever_stands_in_a_payload_is_decoded_or_refused(
    tally: Counter[str], declared: object, data: Json | bytes, encoding: str
) -> None:
    """A payload from another program, or damaged: a value of the declared type, or a DecodingError."""
    try:
        payload = Payload(data, encoding)
    except ValueError:  # NaN and infinities
        tally["refused"] += 1
        return
    try:
        value = CODEC.decode(payload, declared)
    except DecodingError:
        tally["refused"] += 1
        return
    assert CODEC.decode(CODEC.encode(value, declared), declared) == value
    tally["read"] += 1


@LONG
@FUZZ
@given(st.text(max_size=200) | TREES.filter(lambda tree: tree is not None).map(repr))
def test_whatever_text_stands_for_json_is_read_or_refused(tally: Counter[str], text: str) -> None:
    """Truncated, or no JSON at all: a tree that can be written again, or a ValueError."""
    try:
        tree = jsontext.load(text)
    except ValueError:
        tally["refused"] += 1
        return
    assert jsontext.load(jsontext.dump(tree)) == tree
    tally["read"] += 1


@LONG
@FUZZ
@given(TREES, st.integers(0, 200))
@example(4.243603677223951e16, len("4.243603677223951e+1"))
def test_a_truncated_payload_is_read_or_refused(tally: Counter[str], tree: Json, kept: int) -> None:
    """What an interrupted copy leaves of a row."""
    try:
        text = jsontext.dump(tree)
    except ValueError:
        tally["refused"] += 1
        return
    try:
        jsontext.load(text[:kept])
    except ValueError:
        tally["refused"] += 1
        return
    assert kept >= len(text) or text[:kept].strip("+-0123456789.eE") == ""  # a shorter number is a number
    tally["read"] += 1
