"""What the entry point names: how pannier finds this storage."""

from collections.abc import Sequence
from pathlib import Path

from pannier import hookimpl
from pannier.storage import ConfigurationError, JobStorageProvider, StorageAdapter, StorageUrl

from pannier_lmdb.environments import Environments


class Plugin:
    """Offers `lmdb:///PATH`, a folder in which LMDB keeps its two files."""

    def __init__(self) -> None:
        self.environments = Environments()

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer the storage."""
        adapter = StorageAdapter(
            name="lmdb",
            schemes=("lmdb",),
            contract_version="1.0",
            create=self._create,
            destroy=_destroy,
            exists=_exists,
        )
        return (adapter,)

    def _create(self, url: StorageUrl) -> JobStorageProvider:
        from pannier_lmdb.provider import LmdbStorage  # with the driver: only now

        return LmdbStorage(_path(url), self.environments)


async def _destroy(url: StorageUrl) -> None:
    folder = _path(url)
    for name in ("data.mdb", "lock.mdb"):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


async def _exists(url: StorageUrl) -> bool:
    return (_path(url) / "data.mdb").exists()


def _path(url: StorageUrl) -> Path:
    """
    Return the folder that *url* names, one path for all spellings of it.

    Raises:
        ConfigurationError: It names a host, no folder, or an option.
    """
    url.check_options(())
    if url.host or not url.path:
        raise ConfigurationError(f"{url}: write lmdb:///FOLDER, or lmdb:////FOLDER for an absolute one")
    return Path(url.path).resolve()


plugin = Plugin()
