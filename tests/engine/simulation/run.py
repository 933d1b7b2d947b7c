"""One simulation, from its seed to its report."""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from unittest.mock import patch

from attrs import frozen

from pannier.worker import dispatcher
from tests.engine.simulation.story import LEAST_CANCELS, LEAST_FAULTS, LEAST_LAPSES, Story
from tests.engine.simulation.verdict import judge
from tests.engine.simulation.world import World

LAST_SECOND: Final = 2_000.0

FEW: Final = 6
"""So many outcomes may wait before no more jobs are claimed: of the thousands that may, no story tells."""


@frozen(kw_only=True)
class Report:
    """
    What came of one seed.

    Attributes:
        violations: Which rules were broken, and how.
        counts: How often what happened.
        trace: The whole history.
    """

    seed: int
    violations: Sequence[str]
    counts: Counter[str]
    trace: Sequence[str]

    @property
    def shortcomings(self) -> Sequence[str]:
        """What did not happen often enough for the seed to count."""
        return [f"{self.counts[name]} {name}" for name, least in FLOORS.items() if self.counts[name] < least]


FLOORS: Final = {"faults": LEAST_FAULTS, "lapsed": LEAST_LAPSES, "cancelled while running": LEAST_CANCELS}
"""What each seed must have seen at the least."""


def run(seed: int) -> Report:
    """Simulate *seed*."""
    with patch.object(dispatcher, "MAX_UNSETTLED", FEW):
        return _run(seed)


def _run(seed: int) -> Report:
    world = World(seed)
    story = Story(world)
    is_told = world.client.loop.begin(story.tell(), "story")
    if not world.universe.run_until(is_told, deadline=LAST_SECOND):
        world.journal.violated("E4", "the story has no end")
    is_judged = world.client.loop.begin(judge(world, story), "verdict")
    world.universe.run_until(is_judged, deadline=LAST_SECOND + 1)
    world.journal.is_over = True
    counts = Counter(world.ledger.counts)
    counts["faults"] = world.weather.fired.total()
    counts["jobs"] = len(world.ledger.jobs)
    counts["runs"] = len(world.journal.runs)
    counts["steps"] = world.universe.steps
    counts["seconds"] = int(world.universe.now)
    world.end()
    return Report(
        seed=seed, violations=tuple(world.journal.violations), counts=counts, trace=tuple(world.journal.trace)
    )
