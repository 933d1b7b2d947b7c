"""The agenda: against a plain dict that is sorted each time."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pannier_memory._agenda import LEFT_OVER, Agenda

T0 = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = st.integers(0, 20)
INSTANTS = st.integers(0, 20).map(lambda count: T0 + timedelta(seconds=count))


class AgendaAndDict(RuleBasedStateMachine):
    """Jobs are put, moved, removed and taken, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = Agenda()
        self.due: dict[int, datetime] = {}

    @rule(name=NAMES, at=INSTANTS)
    def put(self, name: int, at: datetime) -> None:
        """Let a job fall due, or move it."""
        self.agenda.put(name, at)
        self.due[name] = at

    @rule(names=st.sets(NAMES, min_size=1), at=INSTANTS)
    def put_new(self, names: set[int], at: datetime) -> None:
        """Let those of some jobs fall due together that don't yet."""
        new = [name for name in names if name not in self.due]
        self.agenda.put_new(new, at)
        self.due.update(dict.fromkeys(new, at))

    @rule(name=NAMES)
    def remove(self, name: int) -> None:
        """Let a job fall due no more, if it did."""
        self.agenda.remove(name)
        self.due.pop(name, None)

    @rule(until=INSTANTS, limit=st.integers(0, 5))
    def pop(self, until: datetime, limit: int) -> None:
        """Take the first due ones."""
        expected = [name for at, name in self._sorted() if at <= until][:limit]
        assert self.agenda.pop(until, limit) == expected
        for name in expected:
            del self.due[name]

    @invariant()
    def the_first_one_is_the_same(self) -> None:
        """And so is the number."""
        assert self.agenda.first() == next(iter(self._sorted()), None)
        assert len(self.agenda) == len(self.due)

    def _sorted(self) -> list[tuple[datetime, int]]:
        return sorted((at, name) for name, at in self.due.items())


TestAgenda = AgendaAndDict.TestCase


def test_entries_that_are_out_of_date_are_thrown_away() -> None:
    """A job that is moved for ever costs no more room than one that is not."""
    agenda = Agenda()
    for count in range(10_000):
        agenda.put(1, T0 + timedelta(seconds=count))
    assert len(agenda._line) <= LEFT_OVER + 3  # there is no other way to look
    assert not agenda._heap


def test_entries_out_of_order_are_thrown_away_as_well() -> None:
    """A job that is moved back for ever, while another one stays, costs no more room."""
    agenda = Agenda()
    agenda.put(2, T0)
    for count in range(10_000):
        agenda.put(1, T0 - timedelta(seconds=count))
    assert len(agenda._line) + len(agenda._heap) <= LEFT_OVER + 5
    assert agenda.first() == (T0 - timedelta(seconds=9_999), 1)
