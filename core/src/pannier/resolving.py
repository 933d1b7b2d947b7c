"""The default resolver of class handlers: it fills in trackers, as the constructors ask for them."""

from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast, get_args, get_origin, get_type_hints

from pannier.commands import Command
from pannier.errors import ConfigurationError
from pannier.tracker import JobTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.queues import JobQueues

T = TypeVar("T")


class TrackerResolver:
    """
    Builds a class handler, giving each constructor parameter annotated `JobTracker[C]` a tracker of C.

    Other parameters need a default, or a resolver of the application's own (`JobQueues(resolver=...)`).
    """

    def __init__(self, queues: "JobQueues") -> None:
        self._queues = queues
        self._factories: dict[type, Callable[[], object]] = {}

    def __call__(self, handler: type[T], /) -> T:
        """
        Return a new *handler*.

        Raises:
            ConfigurationError: Its annotations can't be resolved.
            UnregisteredCommandError: It wants a tracker of a command that is not known.
        """
        factory = self._factories.get(handler)
        if factory is None:
            factory = self._factories[handler] = partial(handler, **self._trackers(handler))
        return cast("T", factory())

    def _trackers(self, handler: type) -> dict[str, JobTracker[Command[object]]]:
        try:
            hints = get_type_hints(vars(handler).get("__init__", object.__init__))
        except NameError as error:
            raise ConfigurationError(
                f"the annotations of {handler.__qualname__}.__init__ can't be resolved ({error}); "
                f"import the names outside of TYPE_CHECKING"
            ) from error
        return {
            name: self._queues.tracker(get_args(hint)[0])
            for name, hint in hints.items()
            if get_origin(hint) is JobTracker
        }
