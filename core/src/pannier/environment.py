"""Time, chance and threads, as the engine sees them: what a test replaces so that a run can be repeated exactly."""

from collections.abc import Callable
from random import Random, SystemRandom

from attrs import field, frozen

from pannier.clock import Clock, SystemClock, seconds_since_boot
from pannier.threads import SystemThreads, Threads


@frozen(kw_only=True)
class Environment:
    """
    What a `JobQueues` knows of the world besides its storage.

    Attributes:
        wall: The wall clock. Decides where the storage has no clock of its own; tracking ids carry its time.
        seconds: Counts seconds, also those of a suspension. Carries the storage's clock on between two readings.
        random: Jitter, and the random part of tracking ids.
        threads: Starts the threads of sync handlers, and the one that renews leases.
    """

    wall: Clock = field(factory=SystemClock)
    seconds: Callable[[], float] = seconds_since_boot
    random: Random = field(factory=SystemRandom)
    threads: Threads = field(factory=SystemThreads)
