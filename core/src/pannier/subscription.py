"""What an adapter hands to a listener: the notices about its queues, a bounded number of them."""

import asyncio
from collections import deque
from typing import Final

from pannier.notices import Notice, NoticeKind

PENDING_MAX: Final = 1000
"""How many notices may wait for a listener. Past that it is told to look for itself."""


class Subscription:
    """What a listener gets: the notices about its queues."""

    def __init__(self, queue_ids: frozenset[str]) -> None:
        self.queue_ids = queue_ids
        self._pending: deque[Notice] = deque()
        self._arrived = asyncio.Event()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Notice:
        while not self._pending:
            self._arrived.clear()
            await self._arrived.wait()
        return self._pending.popleft()

    def put(self, notice: Notice) -> None:
        """Hand *notice* over, if it is about one of the queues."""
        if notice.queue_id not in self.queue_ids:
            return
        if len(self._pending) < PENDING_MAX:
            self._pending.append(notice)
            self._arrived.set()
        else:
            self.put_missed()

    def put_missed(self) -> None:
        """Say that anything may have happened, in place of all that waits."""
        self._pending.clear()
        self._pending.extend(Notice(NoticeKind.MISSED, queue_id) for queue_id in sorted(self.queue_ids))
        self._arrived.set()
