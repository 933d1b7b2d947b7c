"""The conformance suite of pannier's storages, and fixtures for the tests of those who use pannier."""

from pannier_testing.storage_conformance import StorageConformance
from pannier_testing.subject import Place

__all__ = ["Place", "StorageConformance"]
