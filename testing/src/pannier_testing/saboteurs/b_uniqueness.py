"""Storages and values that break a rule of section B."""

from uuid import UUID

from attrs import frozen

from pannier.records import JobRecord
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import on_model, on_values


@on_model("R13")
class KeepsOneJobWithoutAKey(Model):
    """Deduplicates jobs that have no key, as a unique index over a column without NULLs does."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look for the key that is not there."""
        alike = [kept for kept in self.jobs.values() if kept.queue_id == job.queue_id]
        without_key = [kept.tracking_id for kept in alike if kept.idempotency_key is None]
        if job.idempotency_key is None and without_key:
            return without_key[0]
        return super().standing(job)


@on_values("R13", "job_record")
@frozen(kw_only=True, slots=False)
class RecordsABlankKey(JobRecord):
    """Keeps a blank key as it is."""

    def __attrs_post_init__(self) -> None:
        key = self.idempotency_key
        super().__attrs_post_init__()
        object.__setattr__(self, "idempotency_key", key)
