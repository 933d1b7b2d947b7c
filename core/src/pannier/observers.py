"""What plugins are asked and told while jobs run; a faulty plugin is logged and does no further harm."""

import logging
from collections.abc import Mapping
from datetime import timedelta

from pannier.commands import Command
from pannier.events import JobEvent
from pannier.plugins import Plugins
from pannier.records import JobRecord

logger = logging.getLogger("pannier")


class Observers:
    """The plugins' hooks as the engine calls them. Looked up once: with no plugin a call costs nothing."""

    def __init__(self, plugins: Plugins) -> None:
        self._hook = plugins.hook
        self.wants_events = bool(plugins.hook.pannier_job_event.get_hookimpls())
        self._gives_metadata = bool(plugins.hook.pannier_job_metadata.get_hookimpls())
        self._chooses_delay = bool(plugins.hook.pannier_retry_delay.get_hookimpls())

    def tell(self, event: JobEvent) -> None:
        """Pass *event* on to every plugin."""
        if not self.wants_events:
            return
        try:
            self._hook.pannier_job_event(event=event)
        except Exception:
            logger.exception("a plugin's pannier_job_event failed on %r", event.kind)

    def metadata(self, command: Command[object]) -> Mapping[str, str]:
        """
        Ask every plugin what to keep beside the job of *command*.

        Raises:
            Exception: Whatever a plugin raises: the caller of `queue_job` is there to hear of it.
        """
        if not self._gives_metadata:
            return {}
        merged: dict[str, str] = {}
        for entries in self._hook.pannier_job_metadata(command=command):
            merged = {**entries, **merged}
        return merged

    def retry_delay(self, job: JobRecord, error: Exception) -> timedelta | None:
        """Ask the plugins how long *job* waits; None: the policy decides."""
        if not self._chooses_delay:
            return None
        try:
            chosen = self._hook.pannier_retry_delay(job=job, error=error)
        except Exception:
            logger.exception("a plugin's pannier_retry_delay failed; the retry policy decides")
            return None
        return chosen if isinstance(chosen, timedelta) else None
