"""The state machine: one seeded history for each rule that can be seen in one."""

from pannier_testing.machine import Machine
from pannier_testing.rules import rules
from pannier_testing.trial import Trial


@rules(
    *("R10", "R12", "R15", "R19", "R21", "R22", "R29", "R37", "R38", "R39"),
    *("R40", "R41", "R42", "R43", "R48", "R53", "R60", "R72", "R97", "R121"),
)
async def histories_agree_with_the_model(trial: Trial) -> None:
    """A guided history of every operation, with re-claims, stale leases and expiries: storage and model agree."""
    await Machine(trial, await trial.open()).play()
