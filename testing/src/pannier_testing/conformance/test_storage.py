"""The suite on the storage that `--pannier-storage` names."""

from pannier_testing.storage_conformance import StorageConformance


class TestStorage(StorageConformance):
    """Every rule of the contract, without a line of code."""
