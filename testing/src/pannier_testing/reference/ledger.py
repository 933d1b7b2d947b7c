"""
The model dressed as a durable storage that processes share: the whole model in one file, replaced atomically.

Every verb takes the file's lock, reads, acts, writes a new file, flushes it and renames it. Slow and sure: for the
rules of durability, and as the base of saboteurs that break them.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pannier.errors import StorageRefusedError
from pannier.records import JobRecord
from pannier.storage import Capabilities
from pannier_testing import wire
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import Shelf

LEDGER_CAPABILITIES = Capabilities(durable=True, shared=True, atomic_batches=True, single_writer=True)


class Ledger(Shelf):
    """A shelf in a file."""

    def __init__(self, path: Path, make_model: Callable[[], Model] = Model) -> None:
        super().__init__(make_model())
        self._make_model = make_model
        self.path = path

    @contextmanager
    def use(self) -> Iterator[Model]:
        """Lend the model as it stands in the file to one caller of one process at a time, and keep what he changes."""
        with self.lock, self.translated(), self.locked():
            before = self.read()
            model = self.load(before)
            yield model
            after = self.dump(model)
            if after != before:
                self.write(after)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the file system raises into pannier's errors."""
        try:
            yield
        except OSError as error:
            raise StorageRefusedError(f"the ledger {self.path} can't be used: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file's lock."""
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> bytes:
        """Return what stands in the file."""
        return self.path.read_bytes() if self.path.exists() else b""

    def write(self, text: bytes) -> None:
        """Replace the file, so that a crash at any line leaves the old or the new one."""
        new = self.path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def load(self, text: bytes) -> Model:
        """Return the model that *text* describes."""
        model = self._make_model()
        for line in text.splitlines():
            job: JobRecord = wire.decode(wire.from_line(line), JobRecord)
            model.put(job)
            if job.idempotency_key is not None:
                model.keys[job.queue_id, job.idempotency_key] = job.tracking_id
        return model

    def dump(self, model: Model) -> bytes:
        """Return a text that describes *model*, a line a job."""
        return b"".join(wire.to_line(wire.encode(job, JobRecord)) for job in model.jobs.values())


def remove_ledger(path: Path) -> None:
    """Remove the file and what stands beside it."""
    for suffix in (path.suffix, ".lock", ".new"):
        path.with_suffix(suffix).unlink(missing_ok=True)
