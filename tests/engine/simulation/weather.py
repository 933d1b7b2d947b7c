"""The weather: what the storage does wrong, to whom, and when."""

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Final

from tests.engine.simulation.universe import Universe

TIMEOUT_SECONDS: Final = 5.0
"""How long a storage takes to say that it did not answer."""

CLOCK_SECONDS: Final = 0.3
"""How long a reading of the clock takes at most: it is wrong by half of that, which is what E15 allows for here."""


class Fate(Enum):
    """What becomes of one call."""

    FINE = "fine"
    SLOW = "slow"
    REFUSED = "refused"
    """Not done, and said at once."""
    BUSY = "busy"
    """Not done, and said after a while."""
    UNDONE = "undone"
    """Not done, and nothing said until the timeout."""
    UNSAID = "unsaid"
    """Done, and nothing said until the timeout."""
    BROKEN = "broken"
    """Done, and the connection breaks in the place of an answer."""
    STRANGE = "strange"
    """Not done, and an error that is none of pannier's."""


CALM: Final[Mapping[Fate, float]] = {}
GUSTY: Final[Mapping[Fate, float]] = {
    Fate.SLOW: 0.06,
    Fate.REFUSED: 0.04,
    Fate.BUSY: 0.02,
    Fate.UNDONE: 0.02,
    Fate.UNSAID: 0.03,
    Fate.BROKEN: 0.04,
    Fate.STRANGE: 0.01,
}
OUTAGES: Final = ((Fate.REFUSED,), (Fate.REFUSED, Fate.UNDONE, Fate.BUSY), (Fate.STRANGE,))


class Weather:
    """
    Decides the fate of every call.

    Attributes:
        odds: How likely each fate is; what is left is fine.
        verbs: The verbs that the odds hold for; None: all.
        cut_off: The instances that get no answer, by the name of their process.
        outage: What becomes of their calls.
        fired: How often each fate but the fine ones was met.
    """

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self.odds: Mapping[Fate, float] = CALM
        self.verbs: frozenset[str] | None = None
        self.cut_off: set[str] = set()
        self.outage: tuple[Fate, ...] = OUTAGES[0]
        self.fired: Counter[Fate] = Counter()
        self._calls: Counter[tuple[str, int]] = Counter()

    @property
    def hurry(self) -> int:
        """How often a process that was cut off has called in one second, at the most."""
        return max(self._calls.values(), default=0)

    @property
    def is_calm(self) -> bool:
        """Whether every call is answered."""
        return not self.odds and not self.cut_off

    def fate(self, verb: str, name: str) -> Fate:
        """Decide the fate of a call of *verb* by the process *name*."""
        random = self._universe.random
        if name in self.cut_off:
            self._calls[name, int(self._universe.now)] += 1
            fate = random.choice(self.outage)
        elif self.odds and (self.verbs is None or verb in self.verbs):
            fate = self._drawn(random.random())
        else:
            fate = Fate.FINE
        if fate is not Fate.FINE:
            self.fired[fate] += 1
        return fate

    def _drawn(self, point: float) -> Fate:
        for fate, odds in self.odds.items():
            point -= odds
            if point < 0:
                return fate
        return Fate.FINE
