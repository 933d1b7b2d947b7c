"""The guided state machine of the suite."""

import pytest

from pannier_testing import machine
from pannier_testing.rules import RuleTest, collect_tests
from pannier_testing.runner import Settings, Status, measure, run_test
from pannier_testing.subject import Subject

HISTORIES = [test for test in collect_tests() if test.name == "histories_agree_with_the_model"]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.rule.number)
def test_a_history_goes_on_until_it_has_tried_its_rule(history: RuleTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance may renew no lease in a hundred steps; the run for the rule of renewals then takes more of them."""
    monkeypatch.setattr(machine, "STEPS", 0)
    monkeypatch.setattr(machine, "FLOORS", {})
    subject = Subject(label="memory", url_for=lambda place: place.fill("memory://{namespace}"))

    outcome = run_test(history, subject, measure(subject), Settings(seed=1))

    assert outcome.status is Status.PASSED, outcome.message
