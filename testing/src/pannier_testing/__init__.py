"""The conformance suite of pannier's storages, and the skeleton of a new one."""

from pannier_testing.storage_conformance import StorageConformance
from pannier_testing.subject import Place

__all__ = ["Place", "StorageConformance"]
