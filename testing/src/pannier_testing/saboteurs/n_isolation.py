"""Storages that break a rule of section N."""

import unicodedata
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from attrs import evolve

from pannier.purging import Purged, StaleJobs
from pannier.records import JobRecord
from pannier_testing.reference.model import Model
from pannier_testing.reference.plugin import Shelves
from pannier_testing.reference.provider import Shelf
from pannier_testing.saboteurs.making import on_model, on_shelves

if TYPE_CHECKING:
    from uuid import UUID

    from pannier.notices import Notice


@on_shelves("R95")
class CutsNamespaces(Shelves):
    """Tells namespaces apart by the first 23 characters of their names."""

    def shelf(self, name: str, make_model: Callable[[], Model] = Model) -> Shelf:
        """Cut the name, as engines with short identifiers do."""
        return super().shelf(name[:23], make_model)

    def remove(self, name: str) -> None:
        """Cut the name here, too."""
        super().remove(name[:23])


@on_shelves("R95")
class SharesKeysBetweenNamespaces(Shelves):
    """Keeps the keys of all namespaces in one table."""

    def shelf(self, name: str, make_model: Callable[[], Model] = Model) -> Shelf:
        """Put one dict of keys into each model."""
        shelf = super().shelf(name, make_model)
        keys: dict[tuple[str, str], UUID] = vars(self).setdefault("keys", {})
        shelf.model.keys = keys
        return shelf


@on_shelves("R95")
class DestroysByPrefix(Shelves):
    """Destroys all namespaces whose names begin with the one that was meant."""

    def remove(self, name: str) -> None:
        """Look for a prefix."""
        for other in [each for each in self.names if each.startswith(name)]:
            super().remove(other)


@on_shelves("R95")
class DestroysByPattern(Shelves):
    """Destroys all namespaces whose names match the one that was meant, as LIKE does: "_" stands for any character."""

    def remove(self, name: str) -> None:
        """Look for a pattern."""
        for other in [each for each in self.names if fnmatchcase(each, name.replace("_", "?"))]:
            super().remove(other)


@on_shelves("R95")
class DestroysNothing(Shelves):
    """Leaves everything where it is when a namespace is destroyed."""

    def remove(self, name: str) -> None:
        """Do nothing."""


class FoldsQueues(Model):
    """Compares the names of queues after changing them."""

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Compare what `fold` makes of them."""
        asked = {self.fold(queue_id) for queue_id in queue_ids}
        return [job for job in self.jobs.values() if self.fold(job.queue_id) in asked and job.finished_at is None]

    def fold(self, name: str) -> str:
        """Return what is compared."""
        return name


@on_model("R96")
class FoldsTheCaseOfQueues(FoldsQueues):
    """Takes "Mail" and "mail" for one queue."""

    def fold(self, name: str) -> str:
        """Ignore case."""
        return name.lower()


@on_model("R96")
class NormalisesQueues(FoldsQueues):
    """Takes two Unicode forms of a name for one queue."""

    def fold(self, name: str) -> str:
        """Compose."""
        return unicodedata.normalize("NFC", name)


@on_model("R96")
class IgnoresBlanksOfQueues(FoldsQueues):
    """Takes "mail" and "mail " for one queue, as some collations do."""

    def fold(self, name: str) -> str:
        """Strip the end."""
        return name.rstrip(" ")


@on_model("R96")
class CutsQueues(FoldsQueues):
    """Tells queues apart by their first 254 characters."""

    def fold(self, name: str) -> str:
        """Cut."""
        return name[:254]


@on_model("R96")
class TakesQueuesForPatterns(Model):
    """Claims from every queue whose name matches, as with LIKE or KEYS."""

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Match."""
        asked = set(queue_ids)
        return [
            job
            for job in self.jobs.values()
            if job.finished_at is None and any(job.queue_id == each or _matches(job.queue_id, each) for each in asked)
        ]


def _matches(name: str, pattern: str) -> bool:
    return len(pattern) > 1 and "%" in pattern and fnmatchcase(name, pattern.replace("%", "*"))


@on_shelves("R95")
class TellsEveryNamespace(Shelves):
    """Tells the listeners of all namespaces."""

    def shelf(self, name: str, make_model: Callable[[], Model] = Model) -> Shelf:
        """Put one dict of listeners into each shelf."""
        shelf = super().shelf(name, make_model)
        listeners: dict[int, tuple[frozenset[str], Callable[[Notice], None]]] = vars(self).setdefault("listeners", {})
        shelf.listeners = listeners
        return shelf


@on_model("R96")
class EndsQueuesAtNul(FoldsQueues):
    """Compares the names of queues up to the first NUL."""

    def fold(self, name: str) -> str:
        """Cut."""
        return name.partition("\0")[0]


@on_model("R96")
class PurgesQueuesInAnyCase(Model):
    """Purges "Mail" with "mail"."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Compare in lower case."""
        if stale.queue_ids is None:
            return super().purge(stale)
        asked = {name.lower() for name in stale.queue_ids}
        alike = {job.queue_id for job in self.jobs.values() if job.queue_id.lower() in asked}
        return super().purge(evolve(stale, queue_ids=frozenset(alike)))
