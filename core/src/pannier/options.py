"""How a queue is worked on."""

import os
from datetime import timedelta
from typing import TypedDict

from attrs import field, frozen

from pannier.checks import require, require_int, require_positive
from pannier.errors import ConfigurationError
from pannier.retry import RetryPolicy


def _cpu_count() -> int:
    return os.cpu_count() or 1


@frozen(kw_only=True)
class QueueOptions:
    """
    How one queue is worked on.

    Attributes:
        max_concurrency: How many of its jobs run at once in one worker; at least 1.
        time_limit: How long an attempt may take; None: as long as it likes.
        retry: When a failed attempt is tried again.
        expire_after: How long after `execute_after` a job expires that is queued without an `expire_on`; None: never.
        prefetch: How many jobs at most are claimed ahead of the free slots, where they are measured to be short;
            0: none.
    """

    max_concurrency: int = field(factory=_cpu_count)
    time_limit: timedelta | None = None
    retry: RetryPolicy = field(factory=RetryPolicy)
    expire_after: timedelta | None = timedelta(hours=4)
    prefetch: int = 100

    def __attrs_post_init__(self) -> None:
        try:
            require_int(self.max_concurrency, "max_concurrency", minimum=1)
            require_int(self.prefetch, "prefetch", minimum=0)
            require(self.retry, RetryPolicy, "retry")
            for name in ("time_limit", "expire_after"):
                if getattr(self, name) is not None:
                    require_positive(getattr(self, name), name)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(str(error)) from error


class QueueOverrides(TypedDict, total=False):
    """What one queue may have different from `QueueOptions`; the same names, all optional."""

    max_concurrency: int
    time_limit: timedelta | None
    retry: RetryPolicy
    expire_after: timedelta | None
    prefetch: int
