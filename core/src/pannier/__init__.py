"""
Background jobs for Python on the storage you already have.

Queue a typed command, get a tracking id; a handler runs it later, here or in another process; a tracker gives
progress and result, and cancels. The contract of a storage is in `pannier.storage`.
"""

from pannier.commands import Command, JobResult, TrackableJob
from pannier.context import JobContext, StopReason
from pannier.errors import (
    ConfigurationError,
    JobCancelledError,
    JobExpiredError,
    JobFailedError,
    JobNotFoundError,
    JobNotSucceededError,
    PannierError,
    StorageError,
    UsageError,
)
from pannier.events import JobEvent, JobEventKind
from pannier.hookspecs import hookimpl
from pannier.making import Expiry
from pannier.middleware import Middleware, Next
from pannier.options import QueueOptions
from pannier.queues import JobQueues
from pannier.records import Cancellation, JobRecord, JobStatus
from pannier.registry import HandlerRegistry
from pannier.retry import NO_RETRY, RetryPolicy
from pannier.tracker import JobProgress, JobTracker
from pannier.worker.options import WorkerOptions

__all__ = [
    "NO_RETRY",
    "Cancellation",
    "Command",
    "ConfigurationError",
    "Expiry",
    "HandlerRegistry",
    "JobCancelledError",
    "JobContext",
    "JobEvent",
    "JobEventKind",
    "JobExpiredError",
    "JobFailedError",
    "JobNotFoundError",
    "JobNotSucceededError",
    "JobProgress",
    "JobQueues",
    "JobRecord",
    "JobResult",
    "JobStatus",
    "JobTracker",
    "Middleware",
    "Next",
    "PannierError",
    "QueueOptions",
    "RetryPolicy",
    "StopReason",
    "StorageError",
    "TrackableJob",
    "UsageError",
    "WorkerOptions",
    "hookimpl",
]
