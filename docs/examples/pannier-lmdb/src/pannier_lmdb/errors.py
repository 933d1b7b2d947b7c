"""LMDB's errors as pannier's."""

from collections.abc import Iterator
from contextlib import contextmanager

import lmdb
from pannier.storage import StorageBusyError, StorageRefusedError


@contextmanager
def translated() -> Iterator[None]:
    """
    Tell in pannier's words what LMDB raises in the block.

    Raises:
        StorageBusyError: All slots for readers are taken; try again.
        StorageRefusedError: The disk is full, a right is missing, the file is none of LMDB's.
    """
    try:
        yield
    except lmdb.ReadersFullError as error:
        raise StorageBusyError(str(error)) from error
    except (lmdb.Error, OSError) as error:
        raise StorageRefusedError(str(error)) from error
