"""The default codec: exact or refused, with the path to the fault."""

import enum
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from attrs import frozen
from cattrs import Converter
from cattrs.strategies import configure_tagged_union
from hypothesis import given
from hypothesis import strategies as st

from pannier import Command, JobQueues, JobResult, hookimpl
from pannier.codec import ConverterCodec
from pannier.errors import DecodingError, EncodingError
from pannier.records import Json, Payload

CODEC = ConverterCodec()


class Colour(enum.Enum):
    """A choice."""

    RED = "red"


@frozen
class Point:
    """A nested value."""

    x: int
    y: float = 0.0


@frozen
class Point3(Point):
    """Has one field more."""

    z: int = 0


@frozen
class Everything(Command[None]):
    """One field of each kind."""

    text: str
    number: int
    ratio: float
    flag: bool
    maybe: int | None
    either: int | str
    colour: Colour
    at: datetime
    day: date
    span: timedelta
    price: Decimal
    key: UUID
    blob: bytes
    point: Point
    points: list[Point]
    pair: tuple[int, str]
    many: tuple[int, ...]
    names: frozenset[str]
    table: dict[str, Point]


EVERYTHING = Everything(
    text="ä\0𝄞",
    number=2**64,
    ratio=0.1,
    flag=True,
    maybe=None,
    either="1",
    colour=Colour.RED,
    at=datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=UTC),
    day=date(2024, 2, 29),
    span=timedelta(days=-1, microseconds=1),
    price=Decimal("1.10"),
    key=UUID(int=5),
    blob=bytes(range(256)),
    point=Point(1, 0.5),
    points=[Point(2)],
    pair=(1, "a"),
    many=(1, 2, 3),
    names=frozenset({"a", "b"}),
    table={"": Point(3)},
)


def test_everything_comes_back_as_it_was() -> None:
    """The standard library's types as well as nested classes."""
    assert CODEC.decode(CODEC.encode(EVERYTHING, Everything), Everything) == EVERYTHING


@given(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False))
def test_scalars_come_back_as_they_were(text: str, number: int, ratio: float, price: Decimal) -> None:
    """Exactly, or not at all."""
    for value, declared in ((text, str), (number, int), (ratio, float), (price, Decimal)):
        assert CODEC.decode(CODEC.encode(value, declared), declared) == value


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (1, str),
        (True, int),
        (1, bool),
        (1, float),
        (None, str),
        ("1", int | None),
        ([1, "2"], list[int]),
        ((1, 2), list[int]),
        ({"a": "b"}, dict[str, int]),
        (Point3(1), Point),
        ([Point3(1)], list[Point]),
        (Point("1"), Point),  # type: ignore[arg-type]  # the fault that the test is about
        (math.nan, float),
        (math.inf, float),
        (object(), int | str),
    ],
)
def test_what_would_not_come_back_as_it_was_is_not_written(value: object, declared: object) -> None:
    """A wrong type, a subclass with further fields, what JSON can't hold."""
    with pytest.raises(EncodingError):
        CODEC.encode(value, declared)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"x": "1"}, r"expected int @ Point\.x"),
        ({"x": 1, "y": "2"}, r"expected float @ Point\.y"),
        ({}, r"required field missing @ Point\.x"),
        ([], "Point"),
        (None, "Point"),
        ("text", "Point"),
    ],
)
def test_a_bad_payload_is_refused_with_the_path_to_the_fault(data: Json, path: str) -> None:
    """So that a person sees what to mend."""
    with pytest.raises(DecodingError, match=path):
        CODEC.decode(Payload(data), Point)


@pytest.mark.parametrize("data", [True, 1.5, "1", None, [1]])
def test_nothing_is_bent_into_a_number(data: Json) -> None:
    """An int is an int."""
    with pytest.raises(DecodingError):
        CODEC.decode(Payload(data), int)


def test_a_field_of_a_newer_program_is_ignored() -> None:
    """An old worker goes on beside a new one that queues more fields."""
    assert CODEC.decode(Payload({"x": 1, "y": 0.5, "new": True}), Point) == Point(1, 0.5)


def test_another_encoding_is_refused_by_name() -> None:
    """What another codec wrote is left to that one."""
    with pytest.raises(DecodingError, match=r"'json\+zstd'"):
        CODEC.decode(Payload(b"", "json+zstd"), Point)


def test_a_payload_that_is_nested_deeply_is_exact_or_refused() -> None:
    """No recursion error reaches the worker."""
    data: Json = 1
    for _ in range(5_000):
        data = [data]
    with pytest.raises(DecodingError):
        CODEC.decode(Payload(data), Point)


def test_a_job_result_comes_back_as_it_was() -> None:
    """Also with its parameter."""
    result = JobResult(total_steps=3, current_step=1, current_status="x", result=7)
    assert CODEC.decode(CODEC.encode(result, JobResult[int]), JobResult[int]) == result


@frozen
class Money:
    """A user's own type."""

    cents: int
    currency: str


@frozen
class Pay(Command[Money]):
    """A command that holds it, directly, in a list and in a union."""

    amount: Money
    parts: list[Money]
    tip: Money | None = None


class MoneyPlugin:
    """Teaches the converter to write money as a person reads it."""

    @hookimpl
    def pannier_configure_converter(self, converter: Converter) -> None:
        converter.register_unstructure_hook(Money, lambda money: f"{money.cents} {money.currency}")
        converter.register_structure_hook(Money, lambda text, _: _read_money(text))


def _read_money(text: str) -> Money:
    cents, currency = text.split(" ")
    return Money(int(cents), currency)


class Parcel:
    """Neither an attrs class nor a dataclass."""


@frozen
class Send(Command[None]):
    """Holds what nobody has taught the converter."""

    parcel: Parcel


def test_a_type_that_the_converter_was_not_taught_is_named_with_what_holds_it() -> None:
    """The message says which command it is about, and what to do."""
    with pytest.raises(EncodingError, match=r"Send can't be encoded: .*'Parcel', which is no JSON value; teach"):
        CODEC.encode(Send(Parcel()), Send)


def test_a_plugin_teaches_the_converter_a_users_own_type() -> None:
    """Wherever it stands, in commands and in results."""
    jobs = JobQueues("memory://", plugins=[MoneyPlugin()])
    command = Pay(Money(100, "EUR"), [Money(1, "CHF")], None)

    payload = jobs.codec.encode(command, Pay)

    assert payload.data == {"amount": "100 EUR", "parts": ["1 CHF"], "tip": None}
    assert jobs.codec.decode(payload, Pay) == command
    assert jobs.codec.decode(jobs.codec.encode(Money(5, "EUR"), Money), Money) == Money(5, "EUR")


class Grade(enum.Enum):
    """A choice whose values mean nothing to a reader."""

    GOOD = 17
    POOR = 4


@frozen
class Card:
    """One way to pay."""

    number: str


@frozen
class Transfer:
    """Another, with the same shape: only a tag tells the two apart."""

    number: str


@frozen
class Buyer:
    """Nested, and holds nested values of the user's own."""

    grade: Grade
    budget: Money
    ways: list[Card | Transfer]


@frozen
class Checkout(Command[Card | Transfer]):
    """A command of all these."""

    buyer: Buyer
    way: Card | Transfer


class ShopPlugin(MoneyPlugin):
    """Money as above, enums by name, the ways to pay by a tag: what cattrs has, through the one hook."""

    @hookimpl
    def pannier_configure_converter(self, converter: Converter) -> None:
        super().pannier_configure_converter(converter)
        converter.register_unstructure_hook(Grade, lambda grade: grade.name.lower())
        converter.register_structure_hook(Grade, lambda name, _: Grade[str(name).upper()])
        configure_tagged_union(Card | Transfer, converter, tag_name="pays_by")


def test_a_plugin_teaches_the_converter_enums_nested_values_and_unions() -> None:
    """Whatever cattrs can be taught, at any depth, for commands and for results."""
    jobs = JobQueues("memory://", plugins=[ShopPlugin()])
    buyer = Buyer(Grade.GOOD, Money(900, "EUR"), [Card("1"), Transfer("1")])
    command = Checkout(buyer, Transfer("2"))

    payload = jobs.codec.encode(command, Checkout)

    assert payload.data == {
        "buyer": {
            "grade": "good",
            "budget": "900 EUR",
            "ways": [{"number": "1", "pays_by": "Card"}, {"number": "1", "pays_by": "Transfer"}],
        },
        "way": {"number": "2", "pays_by": "Transfer"},
    }
    assert jobs.codec.decode(payload, Checkout) == command
    way: Card | Transfer = Card("3")
    assert jobs.codec.decode(jobs.codec.encode(way, Card | Transfer), Card | Transfer) == way


def test_what_a_plugin_s_hook_can_not_read_names_its_place() -> None:
    """The error is the codec's own, with the path."""
    jobs = JobQueues("memory://", plugins=[ShopPlugin()])

    with pytest.raises(DecodingError, match=r"buyer.*grade"):
        jobs.codec.decode(
            Payload({"buyer": {"grade": "odd", "budget": "1 EUR", "ways": []}, "way": {"pays_by": "Card"}}), Checkout
        )


class Fruit(enum.StrEnum):
    """A choice that is a str as well."""

    APPLE = "apple"


class Size(enum.IntEnum):
    """A choice that is an int as well."""

    SMALL = 1


@pytest.mark.parametrize("member", [Colour.RED, Fruit.APPLE, Size.SMALL])
def test_members_of_enums_are_written_as_their_values(member: enum.Enum) -> None:
    """Those that are a str or an int as well are no exception: they come back as members."""
    payload = CODEC.encode(member, type(member))
    assert payload == Payload(member.value)
    assert CODEC.decode(payload, type(member)) is member


@pytest.mark.parametrize("data", [True, 1.0, "1"])
def test_what_only_equals_a_member_is_none(data: Json) -> None:
    """Nothing is bent into a member."""
    with pytest.raises(DecodingError):
        CODEC.decode(Payload(data), Size)


@frozen
class Order(Command[None]):
    """Holds such members everywhere."""

    fruit: Fruit
    maybe: Size | None
    either: Fruit | int
    stock: dict[Fruit, list[Size]]


def test_members_are_read_back_from_wherever_they_are() -> None:
    """In fields, unions, keys and lists."""
    order = Order(Fruit.APPLE, Size.SMALL, Fruit.APPLE, {Fruit.APPLE: [Size.SMALL]})
    payload = CODEC.encode(order, Order)
    assert payload == Payload({"fruit": "apple", "maybe": 1, "either": "apple", "stock": {"apple": [1]}})
    again = CODEC.decode(payload, Order)
    assert isinstance(again, Order)
    assert (again.fruit, again.maybe, *again.stock, *again.stock[Fruit.APPLE]) == (
        Fruit.APPLE,
        Size.SMALL,
        Fruit.APPLE,
        Size.SMALL,
    )
    assert type(again.fruit) is type(next(iter(again.stock))) is Fruit


def test_a_value_that_cannot_be_compared_is_refused() -> None:
    """A signalling NaN raises when it is compared; that is an EncodingError like any other."""
    with pytest.raises(EncodingError, match="can't be compared"):
        CODEC.encode(Decimal("sNaN"), Decimal)


def test_a_member_of_an_enum_is_not_bent_into_its_value() -> None:
    """It has no equality of its own, but what would be read back is of another type: that is comparison enough."""
    with pytest.raises(EncodingError, match="would not be read back"):
        CODEC.encode(Colour.RED, str | None)


@pytest.mark.parametrize("tree", [None, 1, "a", [1, {"a": None}]])
def test_any_is_what_json_holds(tree: Json) -> None:
    """Where a command declares `Any` as its result, a tree is read back as it is, and what is none is refused."""
    assert CODEC.decode(CODEC.encode(tree, Any), Any) == tree
    with pytest.raises(EncodingError, match="would not be read back"):
        CODEC.encode(Point(1), Any)
