"""Storages that break a rule of section L."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import evolve

from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.ledger import Ledger
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import on_ledger


class OpensOnce(Ledger):
    """A ledger that does something when it is used first."""

    def __init__(self, path: Path, make_model: Callable[[], Model] = Model) -> None:
        super().__init__(path, make_model)
        self._is_new = True

    @contextmanager
    def use(self) -> Iterator[Model]:
        """Begin, once."""
        with super().use() as model:
            if self._is_new:
                self._is_new = False
                self.begin(model)
            yield model

    def begin(self, model: Model) -> None:
        """Do it."""


@on_ledger("R84")
class ForgetsWhyJobsFailed(OpensOnce):
    """Drops the errors of finished jobs when it is opened again."""

    def begin(self, model: Model) -> None:
        """Tidy up."""
        for job in list(model.jobs.values()):
            if job.is_complete:
                model.put(evolve(job, errors=()))


@on_ledger("R85")
class WritesBehind(Ledger):
    """Answers first, and writes with the next call."""

    _pending: dict[Path, bytes] = {}  # noqa: RUF012  # what the process has not written yet, by file

    @contextmanager
    def use(self) -> Iterator[Model]:
        """Write what the call before has changed, then serve this one."""
        late = self._pending.pop(self.path, None)
        if late is not None:
            super().write(late)
        with super().use() as model:
            yield model

    def write(self, text: bytes) -> None:
        """Keep it for later."""
        self._pending[self.path] = text

    def read(self) -> bytes:
        """Return what will stand in the file."""
        return self._pending.get(self.path) or super().read()


@on_ledger("R86")
class FreesWhatTheDeadHeld(Ledger):
    """Gives the jobs of a process that died back at once, though their leases live."""

    @contextmanager
    def use(self) -> Iterator[Model]:
        """See who used the ledger last."""
        owner = self.path.with_suffix(".lock")
        with super().use() as model:
            last = owner.read_text()
            if last and not Path("/proc", last).exists():
                for job in list(model.jobs.values()):
                    if job.status is JobStatus.RUNNING:
                        model.put(model.waiting(job, job.execute_after))
            owner.write_text(str(os.getpid()))
            yield model


class CommitsTwice(Ledger):
    """A ledger that writes every change in two steps."""

    def write(self, text: bytes) -> None:
        """Write the first half, then all."""
        before = self.load(self.read()).jobs
        first = self.load(text)
        for job in list(first.jobs.values()):
            first.put(self.half(before.get(job.tracking_id), job))
        super().write(self.dump(first))
        super().write(text)

    def half(self, before: JobRecord | None, job: JobRecord) -> JobRecord:
        """Return *job* as it is between the steps."""
        return job


@on_ledger("R87")
class StoresTheKeyAfterTheJob(CommitsTwice):
    """Commits a job first, and its key afterwards."""

    def half(self, before: JobRecord | None, job: JobRecord) -> JobRecord:
        """Leave the key out."""
        return evolve(job, idempotency_key=None) if before is None else job


@on_ledger("R87")
class LeasesInTwoSteps(CommitsTwice):
    """Commits RUNNING first, and the end of the lease afterwards."""

    def half(self, before: JobRecord | None, job: JobRecord) -> JobRecord:
        """Leave the lease for ever."""
        is_new = before is not None and before.status is JobStatus.PENDING and job.status is JobStatus.RUNNING
        return evolve(job, dequeue_after=job.dequeue_after.replace(year=9999)) if is_new else job


@on_ledger("R88")
class BeginsAfresh(Ledger):
    """Gives back whatever runs when a process starts, as if it were the only one."""

    def __init__(self, path: Path, make_model: Callable[[], Model] = Model) -> None:
        super().__init__(path, make_model)
        self._is_begun = False

    def load(self, text: bytes) -> Model:
        """Take every running job to be left over from a crash."""
        model = super().load(text)
        for job in list(model.jobs.values()):
            if not self._is_begun and job.status is JobStatus.RUNNING:
                model.put(model.waiting(job, job.execute_after))
        self._is_begun = True
        return model


@on_ledger("R89")
class MistrustsAnUnfinishedFile(Ledger):
    """Refuses to work where another process left a new file behind that it had not renamed yet."""

    def read(self) -> bytes:
        """Read, if nobody was interrupted."""
        new = self.path.with_suffix(".new")
        if new.exists():
            raise OSError(0, f"{new} stands in the way")
        return super().read()


@on_ledger("R90")
class LetsTheFileSystemSpeak(Ledger):
    """Lets the error of the file system through as it is."""

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate nothing."""
        yield


@on_ledger("R84")
class ForgetsWhatFailedJobsHadDone(OpensOnce):
    """Drops the progress of failed jobs when it is opened again."""

    def begin(self, model: Model) -> None:
        """Tidy up."""
        for job in list(model.jobs.values()):
            if job.status is JobStatus.FAILED:
                model.put(evolve(job, progress=None))


@on_ledger("R90")
class SaysNothingOfAFullDisk(Ledger):
    """Takes what could not be written for written."""

    def write(self, text: bytes) -> None:
        """Go on."""
        with suppress(OSError):
            super().write(text)
