"""
What the fields of pannier's values may hold.

Each function refuses a wrong value with a TypeError or ValueError that calls it by its field's name (R106).
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from math import isfinite
from types import NoneType
from typing import Final, cast

_TEXT: Final = frozenset({str})
_SCALARS: Final = frozenset({NoneType, bool, int, str})


def require(value: object, kind: type, name: str) -> None:
    """
    Refuse what is no instance of *kind*: for a storage's own arguments, which no value has checked (R108).

    Raises:
        TypeError: Says what it must be, and calls it *name*.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def require_int(value: object, name: str, *, minimum: int | None = None) -> None:
    """Refuse what is no int (a bool is none), or lies below *minimum*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {value}")


def require_text(value: object, name: str) -> None:
    """Refuse what is no str, or an empty one."""
    require(value, str, name)
    if not value:
        raise ValueError(f"{name} must not be empty")


def require_positive(value: object, name: str) -> None:
    """Refuse what is no timedelta of more than 0."""
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {type(value).__name__}")
    if value <= timedelta(0):
        raise ValueError(f"{name} must be more than 0, not {value}")


def require_not_negative(value: object, name: str) -> None:
    """Refuse what is no timedelta of at least 0."""
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {type(value).__name__}")
    if value < timedelta(0):
        raise ValueError(f"{name} must be at least 0, not {value}")


def require_queue_ids(queue_ids: object) -> None:
    """Refuse what is neither None nor a frozenset of queue ids."""
    if queue_ids is None:
        return
    if not isinstance(queue_ids, frozenset):
        raise TypeError(f"queue_ids must be a frozenset, not {type(queue_ids).__name__}")
    for queue_id in queue_ids:
        require_text(queue_id, "queue_ids")


def plain_metadata(metadata: object) -> dict[str, str]:
    """Return a dict of the caller's mapping from text to text, which he can't change any more."""
    if type(metadata) is dict and not metadata:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, not {type(metadata).__name__}")
    copied = dict(metadata)
    if not (_TEXT.issuperset(map(type, copied)) and _TEXT.issuperset(map(type, copied.values()))):
        for key, value in copied.items():
            require(key, str, "metadata keys")
            require(value, str, f"metadata[{key!r}]")
    return copied


def check_json(data: object) -> None:
    """
    Refuse what JSON can't hold exactly: other types, keys that are no str, NaN and infinities, cycles (R104).

    Depth is no danger (R103). 2 us for a tree of 5 containers.
    """
    if type(data) is dict and _is_flat(data):
        return
    waiting = [data]
    entered: set[int] = set()
    is_tree = True
    for node in waiting:  # which grows meanwhile
        if type(node) is not dict and type(node) is not list:
            _check_leaf(node)
        elif id(node) in entered:
            is_tree = False
        else:
            entered.add(id(node))
            for child in _children(node):
                if type(child) not in _SCALARS:
                    waiting.append(child)  # noqa: PERF401  # a third quicker than a comprehension
    if not is_tree:
        _refuse_cycles(data)


def _is_flat(data: Mapping[object, object]) -> bool:
    """Whether nothing in *data* needs a closer look. Most payloads are so: 0.4 us instead of 0.9 for 5 entries."""
    for key, child in data.items():
        if type(key) is not str or (type(child) not in _SCALARS and not (type(child) is float and isfinite(child))):
            return False
    return True


def _children(node: object) -> Iterable[object]:
    """Return what the dict or list *node* holds; refuse keys that are no str."""
    if not isinstance(node, dict):
        return cast("list[object]", node)
    for key in node:
        if type(key) is not str:
            raise TypeError(f"data holds a dict key of type {type(key).__name__}; JSON keys are str")
    return node.values()


def _check_leaf(data: object) -> None:
    if type(data) in _SCALARS:
        return
    if type(data) is not float:
        raise TypeError(f"data holds {type(data).__name__!r}, which is no JSON value; teach the codec to write it")
    if not isfinite(data):
        raise ValueError(f"data holds {data!r}, which JSON can't hold; encode it in another way")


def _refuse_cycles(root: object) -> None:
    """Tell a container that stands in several places of *root*, which is fine, from one that stands inside itself."""
    path = {id(root): iter(_children(root))}
    done: set[int] = set()
    while path:
        for child in path[next(reversed(path))]:
            if id(child) in path:
                raise ValueError("data holds itself; JSON can't hold a cycle")
            if isinstance(child, dict | list) and id(child) not in done:
                path[id(child)] = iter(_children(child))
                break
        else:
            done.add(path.popitem()[0])
