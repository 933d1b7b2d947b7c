"""What excuses a worker that stops a handler for its lease's sake."""

from uuid import UUID

from pannier.records import Lease
from tests.engine.simulation.journal import Journal
from tests.engine.simulation.ledger import Grant, Ledger
from tests.engine.simulation.universe import Universe


def given(*, left: float) -> Grant:
    """Return a lease that had so much left when it was given, and was renewed since."""
    lease = Lease(UUID(int=1), 1)
    return Grant(lease=lease, worker="worker-1", at=7.2, ends=14.3, left=left, lapses=0, attempt=1, known_at=7.2)


def test_a_lease_that_was_given_late_is_an_excuse_after_its_renewal_too() -> None:
    """A handler in a thread looks at its token when it likes; by then a lease that was about to end may be renewed."""
    universe = Universe(1)
    ledger = Ledger(universe, Journal(universe))

    assert ledger.is_troubled(given(left=3.3))
    assert not ledger.is_troubled(given(left=6.0))
