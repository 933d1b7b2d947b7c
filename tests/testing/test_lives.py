"""The lives of many jobs that show what a storage leaves behind."""

import asyncio

from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_testing.lives import BATCH, live
from pannier_testing.saboteurs.angels import PushesNothing


def test_a_storage_that_withholds_notices_is_not_asked_for_them() -> None:
    """As one is whose server has none."""
    url = StorageUrl("memory://lives")
    storage = PushesNothing(Plugins.installed().create_storage(url), url)

    async def play() -> int:
        await storage.open()
        try:
            return len(await live(storage, lives=2 * BATCH, every=BATCH))
        finally:
            await storage.close()

    assert asyncio.run(play()) == 2
