"""
A universe: virtual time, and the event loops and threads that live in it, one of which runs at any moment.

Which one is decided by the seed. Nothing here waits for real time, and nothing runs at the same time as anything else,
so that a seed gives the same history each time.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from random import Random
from typing import Final, Protocol

EPOCH: Final = datetime(2030, 1, 1, tzinfo=UTC)

STEP_SECONDS: Final = 20e-6
"""What one step costs, so that whoever spins makes the time pass, too."""


LAST_SECONDS: Final = 120.0
"""How long everything has to come to its end once the universe does."""


class Killed(BaseException):
    """The process of the running code is dead. Raised where that code would go on."""


class State(Enum):
    """What a process can do."""

    ALIVE = "alive"
    FROZEN = "frozen"
    DEAD = "dead"


ALIVE: Final = State.ALIVE


class Host(Protocol):
    """
    The process that a loop or a thread belongs to.

    Attributes:
        state: What it can do.
        is_blocked: Whether a handler holds its loop.
        blocked_at: When one did so last.
    """

    state: State
    is_blocked: bool
    blocked_at: float

    def exited(self) -> None:
        """Take note that something on a loop has asked the process to end, as `sys.exit` does."""


class Actor(Protocol):
    """A loop or a thread."""

    host: Host

    def wakes_at(self) -> float | None:
        """Return from when on it can go on; None: not before somebody else does something."""
        ...

    def is_over(self) -> bool:
        """Whether it never goes on again."""
        ...

    def step(self) -> None:
        """Go on for a moment."""
        ...

    def hold(self, seconds: float) -> None:
        """Stand still for so long, in the middle of a step, while the others go on."""
        ...

    def give_up(self) -> None:
        """Come to an end with the next steps."""
        ...

    def close(self) -> None:
        """Be over."""
        ...


class Universe:
    """
    Time, chance, and everything that moves.

    Attributes:
        now: Seconds since the beginning.
        random: Where all chance comes from.
        steps: How often something has moved.
        faults: What an event loop was told of: exceptions that nobody has asked for.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.steps = 0
        self.faults: list[str] = []
        self._actors: list[Actor] = []
        self._past: list[Actor] = []
        self._current: Actor | None = None

    @property
    def instant(self) -> datetime:
        """The time as a storage's clock tells it."""
        return EPOCH + timedelta(seconds=self.now)

    def add(self, actor: Actor) -> None:
        """Let *actor* live here, in the place of those that are over."""
        self._past += [other for other in self._actors if other.is_over() or other.host.state is State.DEAD]
        self._actors = [other for other in self._actors if other not in self._past]
        self._actors.append(actor)

    def run_until(self, condition: Callable[[], object], *, deadline: float) -> bool:
        """Go on until *condition* gives something true, at most until *deadline*. Return whether it did."""
        while not condition():
            if self.now >= deadline or not self._step():
                return False
        return True

    def block(self, seconds: float) -> None:
        """Hold whatever runs now, a thread or a whole event loop, for so long."""
        actor = self._current
        assert actor is not None
        actor.hold(seconds)
        self._current = actor

    def end(self) -> None:
        """Let everything that is left come to its end, so that nothing of it is collected half-way."""
        self._actors, self._past = [*self._past, *self._actors], []
        for actor in self._actors:
            actor.host.state = ALIVE
            actor.give_up()
        self.run_until(lambda: False, deadline=self.now + LAST_SECONDS)
        for actor in self._actors:
            actor.close()

    def _step(self) -> bool:
        ready, earliest = self._ready()
        if not ready:
            if earliest is None:
                return False
            self.now = max(self.now, earliest)
            ready, _ = self._ready()
        actor = ready[0] if len(ready) == 1 else self.random.choice(ready)
        self.steps += 1
        self.now += STEP_SECONDS
        self._current = actor
        actor.step()
        self._current = None
        return True

    def _ready(self) -> tuple[list[Actor], float | None]:
        """Return who can go on now, and when the first of the others can."""
        ready = []
        earliest: float | None = None
        for actor in self._actors:
            if actor.host.state is not ALIVE:
                continue
            wakes_at = actor.wakes_at()
            if wakes_at is None:
                continue
            if wakes_at <= self.now:
                ready.append(actor)
            elif earliest is None or wakes_at < earliest:
                earliest = wakes_at
        return ready, earliest
