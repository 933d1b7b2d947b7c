"""Which version of this package made a store, and which ones can work with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.storage import SchemaTooNewError

from pannier_lmdb import layout

if TYPE_CHECKING:
    import lmdb

VERSION: Final = 1
# The oldest version that can go on working with a store of this one.
COMPATIBLE: Final = 1


def check(transaction: lmdb.Transaction[bytes]) -> None:
    """
    Mark a new store as made by this version, or look at the mark of an old one.

    Raises:
        SchemaTooNewError: It was made by a version that this one can't follow.
    """
    mark = transaction.get(layout.SCHEMA)
    if mark is None:
        transaction.put(layout.SCHEMA, b"%d %d" % (VERSION, COMPATIBLE))
        return
    made_by, compatible = map(int, mark.split())
    if compatible > VERSION:
        raise SchemaTooNewError(found=made_by, known=VERSION)
