"""The storage, held to every rule of the contract."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import lmdb
from pannier.storage import SchemaTooNewError
from pannier_testing import NewerSchema, Place, StorageConformance

from pannier_lmdb import layout, schema
from pannier_lmdb.plugin import plugin


class TestLmdb(StorageConformance):
    def storage_url(self, env: Place) -> str:
        return f"lmdb:///{env.tmp}/jobs"

    def damage(self, url: str, tracking_id: str) -> None:
        """Overwrite a job's command with what is no JSON."""
        with _writing(url) as transaction:
            transaction.put(layout.command_key(UUID(tracking_id)), b"\xff")

    def store_size(self, url: str) -> int:
        """Count the entries."""
        with _writing(url) as transaction:
            return transaction.stat()["entries"]

    def make_newer(self, url: str, newer: NewerSchema) -> None:
        """Let the next version have been there, and have given each job a colour."""
        following = schema.VERSION + 1
        compatible = schema.VERSION if newer is NewerSchema.COMPATIBLE else following
        with _writing(url) as transaction:
            transaction.put(layout.SCHEMA, b"%d %d" % (following, compatible))
            for job, record in list(_records(transaction)):
                coloured = {**record, "colour": f"#{job.hex[:6]}"}
                transaction.put(layout.record_key(job), json.dumps(coloured).encode())

    def unknown_fields(self, url: str) -> Mapping[str, object]:
        """Return the jobs' colours."""
        with _writing(url) as transaction:
            return {str(job): record.get("colour") for job, record in _records(transaction)}


@contextmanager
def _writing(url: str) -> Iterator["lmdb.Transaction[bytes]"]:
    path = Path(url.removeprefix("lmdb:///")).resolve()
    with ExitStack() as leaving:
        try:
            environment = plugin.environments.borrow(path)  # storages in this process may have it open
            leaving.callback(plugin.environments.give_back, path)
        except SchemaTooNewError:
            environment = leaving.enter_context(lmdb.open(str(path)))
        yield leaving.enter_context(environment.begin(write=True))


def _records(transaction: "lmdb.Transaction[bytes]") -> Iterator[tuple[UUID, dict[str, Any]]]:
    for key, written in transaction.cursor():
        if key.startswith(layout.RECORDS):
            yield UUID(bytes=key.removeprefix(layout.RECORDS)), json.loads(written)
