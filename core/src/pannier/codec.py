"""
Codecs: from a command, result or progress to a `Payload` and back.

The default one is a cattrs converter that plugins configure. It is strict: a value is written and read as the declared
type or refused, never bent into it. Nothing found in a payload ever names code to import.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Protocol, TypeVar, Union, get_args, get_origin
from uuid import UUID

from cattrs import Converter, transform_error

from pannier.checks import check_json
from pannier.errors import DecodingError, EncodingError
from pannier.records import Payload
from pannier.restoring import restore_payload

T = TypeVar("T")

SCALARS: Final[frozenset[object]] = frozenset({bool, int, float, str, NoneType})


class Codec(Protocol):
    """
    Turns a value of a declared type into a payload and back.

    Codecs compose: one may wrap another and add to its encoding.
    """

    def encode(self, value: object, declared: object) -> Payload:
        """
        Write *value*, which is of the type *declared*.

        Raises:
            EncodingError: It is not of that type, or can't be written.
        """
        ...

    def decode(self, payload: Payload, declared: object) -> object:
        """
        Read a value of the type *declared*.

        Raises:
            DecodingError: The payload holds no such value, or has an encoding that this codec doesn't know.
        """
        ...


class ConverterCodec:
    """
    The default codec: JSON trees made by cattrs.

    Two converters are kept: a quick one, and one that is asked for an explanation when the quick one has refused.
    """

    def __init__(self, configure: Iterable[Callable[[Converter], object]] = ()) -> None:
        # Each costs a program that imports pannier 10 ms and more, and many never make job queues.
        from cattrs.preconf.json import make_converter  # noqa: PLC0415

        self._quick = make_converter(detailed_validation=False, unstruct_collection_overrides={tuple: list})
        self._careful = make_converter(detailed_validation=True, unstruct_collection_overrides={tuple: list})
        for converter in (self._quick, self._careful):
            _be_strict(converter)
            for step in configure:
                step(converter)
        self._writers: dict[object, Callable[[object], object]] = {}
        self._readers: dict[object, Callable[[object, object], object]] = {}

    def encode(self, value: object, declared: object) -> Payload:
        """Write *value* as a JSON tree. See `Codec.encode`."""
        if declared in SCALARS:
            if type(value) is not declared:
                raise EncodingError(_mismatch(value, declared))
            return _payload(value) if declared is float else restore_payload(value)  # type: ignore[arg-type]  # a scalar
        if isinstance(declared, type) and declared is not Any and not isinstance(value, declared):
            raise EncodingError(_mismatch(value, declared))
        try:
            payload = _payload(self._writer(declared)(value))
        except EncodingError as error:
            raise EncodingError(f"{_name(declared)} can't be encoded: {error}") from error
        except Exception as error:  # a user's hook may raise anything
            raise EncodingError(f"{_name(declared)} can't be encoded: {type(error).__name__}: {error}") from error
        self._check_read_back(payload, value, declared)
        return payload

    def decode(self, payload: Payload, declared: object) -> object:
        """Read a value of the type *declared* from a JSON tree. See `Codec.decode`."""
        if payload.encoding != "json":
            raise DecodingError(
                f"the payload's encoding is {payload.encoding!r}, this codec reads 'json'; "
                f"give the handler the codec that wrote it"
            )
        if type(payload.data) in SCALARS and type(payload.data) is declared:
            return payload.data
        try:
            return (self._readers.get(declared) or self._reader(declared))(payload.data, declared)
        except Exception as error:  # a user's hook may raise anything
            raise DecodingError(self._explain(payload, declared, error)) from error

    def _writer(self, declared: object) -> Callable[[object], object]:
        writer = self._writers.get(declared)
        if writer is None:
            writer = self._writers[declared] = self._quick.get_unstructure_hook(declared)
        return writer

    def _reader(self, declared: object) -> Callable[[object, object], object]:
        reader = self._readers.get(declared)
        if reader is None:
            reader = self._readers[declared] = self._quick.get_structure_hook(declared)
        return reader

    def _check_read_back(self, payload: Payload, value: object, declared: object) -> None:
        """
        Refuse what would not be read back as it was: a field of another type, a subclass with further fields.

        It is known here who has made the value; at the other end there is only a job that fails. Values without an
        equality of their own can't be compared, only read.
        """
        try:
            again = self._reader(declared)(payload.data, declared)
        except Exception as error:  # a user's hook may raise anything
            if not isinstance(declared, type):
                raise EncodingError(_mismatch(value, declared)) from error
            reason = self._explain(payload, declared, error)
            raise EncodingError(f"{_name(declared)} could not be read back: {reason}") from error
        try:
            is_other = again != value and not (type(again) is type(value) and type(value).__eq__ is object.__eq__)
        except Exception as error:  # a user's __eq__ may raise anything, and a signalling NaN's does
            raise EncodingError(f"a {type(value).__qualname__} can't be compared with what is read back") from error
        if is_other:
            raise EncodingError(
                f"a {type(value).__qualname__} would not be read back as it is: something in it is of another type "
                f"than {_name(declared)} declares"
            )

    def _explain(self, payload: Payload, declared: object, error: Exception) -> str:
        try:
            self._careful.structure(payload.data, declared)  # type: ignore[arg-type]  # cattrs takes any annotation
        except Exception as careful:  # the same fault again, with the path to it
            reasons = transform_error(careful, path=_name(declared))
            return f"the payload could not be read as {_name(declared)}: {'; '.join(reasons)}"
        return f"the payload could not be read as {_name(declared)}: {type(error).__name__}: {error}"


def _payload(data: object) -> Payload:
    try:
        if type(data) is not bytes:
            check_json(data)
        return restore_payload(data)  # type: ignore[arg-type]  # checked; 0.3 us less than a Payload that checks itself
    except (TypeError, ValueError) as error:
        try:
            return Payload(_without_members(data))  # type: ignore[arg-type]  # as above
        except (TypeError, ValueError, RecursionError):
            raise EncodingError(str(error)) from error


def _without_members(data: object) -> object:
    """
    Put values in the place of members of enums.

    cattrs' JSON converter lets those through that are a str or an int as well.
    """
    if isinstance(data, Enum):
        return data.value
    if type(data) is dict:
        return {_without_members(key): _without_members(value) for key, value in data.items()}
    if type(data) is list:
        return [_without_members(item) for item in data]
    return data


def _be_strict(converter: Converter) -> None:
    """Let JSON's own types through as they are only, and add the standard library's that JSON has no form for."""
    from decimal import Decimal  # noqa: PLC0415  # as above

    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _float)
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(_text(text)))
    converter.register_unstructure_hook(timedelta, lambda span: span // timedelta(microseconds=1))
    converter.register_structure_hook(timedelta, lambda count, _: timedelta(microseconds=_exactly(int)(count, int)))


def _exactly(kind: type[T]) -> Callable[[object, type[T]], T]:
    def read(data: object, wanted: type[T]) -> T:
        if type(data) is not kind:
            raise TypeError(f"expected {kind.__name__}, found {type(data).__name__}")
        if wanted is kind or not (isinstance(wanted, type) and issubclass(wanted, Enum)):
            return data
        return wanted(data)  # cattrs asks here for members that are a str or an int as well

    return read


def _float(data: object, _: object) -> float:
    if type(data) is float:
        return data
    if type(data) is int and int(float(data)) == data:
        return float(data)
    raise TypeError(f"expected float, found {type(data).__name__}")


def _text(data: object) -> str:
    if type(data) is str:
        return data
    raise TypeError(f"expected str, found {type(data).__name__}")


def _mismatch(value: object, declared: object) -> str:
    return f"expected {_name(declared)}, got {type(value).__name__}"


def _name(declared: object) -> str:
    """Name a declared type as it is written: `int | None`, `list[str]`, `Thumbnail`."""
    if declared is NoneType:
        return "None"
    if get_origin(declared) in {Union, UnionType}:
        return " | ".join(map(_name, get_args(declared)))
    return declared.__qualname__ if isinstance(declared, type) and not get_args(declared) else str(declared)
