"""The storage, held to every rule of the contract."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import lmdb
from pannier_testing import Place, StorageConformance

from pannier_lmdb import layout
from pannier_lmdb.plugin import plugin


class TestLmdb(StorageConformance):
    def storage_url(self, env: Place) -> str:
        return f"lmdb:///{env.tmp}/jobs"

    def damage(self, url: str, tracking_id: str) -> None:
        """Overwrite a job's command with what is no JSON."""
        with _environment(url) as environment, environment.begin(write=True) as transaction:
            transaction.put(layout.command_key(UUID(tracking_id)), b"\xff")

    def store_size(self, url: str) -> int:
        """Count the entries."""
        with _environment(url) as environment:
            return environment.stat()["entries"]


@contextmanager
def _environment(url: str) -> Iterator[lmdb.Environment]:
    """Share the environment with the storages that are open in this process, as LMDB demands."""
    path = Path(url.removeprefix("lmdb:///")).resolve()
    yield plugin.environments.borrow(path)
    plugin.environments.give_back(path)
