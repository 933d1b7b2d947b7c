"""What plugins are asked and told while jobs run; a faulty one is logged and harms neither jobs nor other plugins."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import pluggy

from pannier.commands import Command
from pannier.events import JobEvent
from pannier.records import JobRecord

if TYPE_CHECKING:
    from pannier.plugins import Plugins

logger = logging.getLogger("pannier")


class Observers:
    """
    The plugins' hooks as the engine calls them. Looked up once: with no plugin a call costs nothing.

    Each plugin is called by itself: in a pluggy call the first exception keeps the rest from being called.
    """

    def __init__(self, plugins: "Plugins") -> None:
        self._hook = plugins.hook
        self._listeners = _implementations(plugins.hook.pannier_job_event)
        self._delays = _implementations(plugins.hook.pannier_retry_delay)
        self._gives_metadata = bool(plugins.hook.pannier_job_metadata.get_hookimpls())
        self.wants_events = bool(self._listeners)

    def tell(self, event: JobEvent) -> None:
        """Pass *event* on to every plugin."""
        for listener in self._listeners:
            try:
                _call(listener, event=event)
            except Exception:
                logger.exception("pannier_job_event of plugin %r failed on %r", listener.plugin_name, event.kind)

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
        """Ask the plugins, one after the other, how long *job* waits; None: the policy decides."""
        for chooser in self._delays:
            try:
                chosen = _call(chooser, job=job, error=error)
            except Exception:
                logger.exception("pannier_retry_delay of plugin %r failed", chooser.plugin_name)
                continue
            if isinstance(chosen, timedelta):
                return chosen
            if chosen is not None:
                logger.error("pannier_retry_delay of plugin %r gave %r, no timedelta", chooser.plugin_name, chosen)
        return None


def _implementations(hook: pluggy.HookCaller) -> list[pluggy.HookImpl]:
    """Return the implementations of *hook*, in the order in which pluggy would call them."""
    return [found for found in reversed(hook.get_hookimpls()) if not (found.hookwrapper or found.wrapper)]


def _call(implementation: pluggy.HookImpl, **arguments: object) -> object:
    """Call one implementation with those of the hook's arguments that it asks for."""
    function: Callable[..., object] = implementation.function
    return function(*(arguments[name] for name in implementation.argnames))
