"""
JSON text for storages that keep a payload's tree as text: exact in both directions, or refused.

The standard library's parser is used on purpose: faster ones turn 2**64 into a float or refuse lone surrogates.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Final, cast

from pannier.records import Json

MAX_DEPTH: Final = 500
"""How deeply a tree may nest. CPython 3.11 parses 1,000 levels less the caller's own stack; half of it is safe."""

_READABLE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ESCAPED: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def _set_up_once(encoder: json.JSONEncoder) -> Callable[[object], str]:
    """
    Return what does as `encoder.encode`, for a compact encoder that escapes no more than it must and refuses NaN.

    The standard library makes the half of its encoder that is written in C anew for each text, and a dict with it to
    find cycles, which end in a RecursionError here. A payload of four entries takes half as long: 1.0 us less.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter whose json has no such half
        return encoder.encode
    write = make(
        None, encoder.default, json.encoder.encode_basestring, None, encoder.key_separator, encoder.item_separator,
        encoder.sort_keys, encoder.skipkeys, encoder.allow_nan,
    )  # fmt: skip
    return lambda data: "".join(write(data, 0))


_readable: Final = _set_up_once(_READABLE)


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits} is more than a float holds")
    return number


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_WORDS: Final[Mapping[object, str]] = {None: "null", True: "true", False: "false"}


def dump(data: Json) -> str:
    """
    Write *data* as JSON on one line that a person can read; escaped to ASCII only where it holds a lone surrogate.

    Raises:
        ValueError: It nests too deeply, contains itself, or holds an integer of thousands of digits, or two lone
            surrogates in a row, which JSON takes for one character.
    """
    if type(data) is int:  # most results are scalars, and the encoder takes 2 us to set itself up
        return str(data)
    if data is None or type(data) is bool:
        return _WORDS[data]
    try:
        try:
            text = _readable(data)
        except RecursionError:
            text = _READABLE.encode(data)  # which tells a cycle from what is merely deep
    except RecursionError:
        raise ValueError(_too_deep()) from None
    if not text.isascii() and not _is_unicode(text):
        text = _ESCAPED.encode(data)
        if load(text) != data:
            raise ValueError("it holds two lone surrogates in a row, which JSON text can't tell from one character")
    # Counting brackets is quick and never too low; only a tree that might be too deep is measured.
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise ValueError(_too_deep())
    return text


def load(text: str) -> Json:
    """
    Read what `dump` wrote: a tree that a payload may hold, and so needs no further check.

    Raises:
        ValueError: It is no JSON, nests too deeply, or holds a number that no float can.
    """
    try:
        tree, end = _DECODER.raw_decode(text)
        if end == len(text):
            return cast("Json", tree)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except json.JSONDecodeError:
        pass
    return cast("Json", _DECODER.decode(text))  # there is space around it, which takes two regular expressions to find


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(data: Json) -> int:
    """Measure how deeply *data* nests, level by level, without recursion: how many brackets are open at most."""
    depth = 0
    level: list[object] = _containers([data])
    while level:
        depth += 1
        level = [
            below
            for node in level
            for below in _containers(node.values() if isinstance(node, dict) else cast("list[object]", node))
        ]
    return depth


def _containers(nodes: Iterable[object]) -> list[object]:
    return [node for node in nodes if isinstance(node, dict | list)]


def _too_deep() -> str:
    return f"it nests deeper than {MAX_DEPTH} levels"
