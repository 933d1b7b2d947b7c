"""The errors of attempts as JSON text."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier import jsontext
from pannier.errortext import dump_error, dump_errors, load_errors
from pannier.records import JobError

T0 = datetime(2030, 1, 1, tzinfo=UTC)
ERRORS = st.builds(
    JobError,
    attempt=st.integers(0, 2**40),
    at=st.datetimes(timezones=st.just(UTC)),
    kind=st.text(),
    message=st.text(),
    traceback=st.text(),
)


@given(st.lists(ERRORS, max_size=5).map(tuple))
def test_errors_come_back_as_they_were_written(errors: tuple[JobError, ...]) -> None:
    """R54: every text, every microsecond, in their order."""
    assert load_errors(dump_errors(errors)) == errors


@given(ERRORS)
def test_one_error_is_an_element_of_the_list(error: JobError) -> None:
    """A storage that appends in its own language writes the same."""
    assert load_errors(f"[{dump_error(error)}]") == (error,)


def test_a_person_can_read_them() -> None:
    """Times are ISO 8601, names are those of the record."""
    error = JobError(attempt=2, at=T0, kind="ValueError", message="no")
    assert jsontext.load(dump_error(error)) == {
        "attempt": 2,
        "at": "2030-01-01T00:00:00+00:00",
        "kind": "ValueError",
        "message": "no",
        "traceback": "",
    }


@pytest.mark.parametrize(
    "text",
    ["", "{}}", "5", "[5]", "[{}]", '[{"attempt": 1, "at": "soon", "kind": "", "message": "", "traceback": ""}]'],
)
def test_damage_by_another_hand_is_one_of_three_errors(text: str) -> None:
    """A storage catches those, and goes on."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        load_errors(text)
