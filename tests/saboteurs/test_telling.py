"""What `python -m pannier_testing.saboteurs` says of a saboteur that was tried."""

from collections.abc import Mapping

from pannier_testing.rules import collect_tests
from pannier_testing.runner import Outcome, Status
from pannier_testing.saboteurs.__main__ import faults_of, lines_of
from pannier_testing.saboteurs.making import Saboteur
from pannier_testing.saboteurs.plugin import collect_saboteurs
from pannier_testing.saboteurs.trying import Attempt

SABOTEURS: dict[str, Saboteur] = {saboteur.name: saboteur for saboteur in collect_saboteurs()}


def attempt_of(name: str, ends: Mapping[str, Status]) -> Attempt:
    """Return an attempt of all tests: those of the rules in *ends* ended so, all others passed."""
    outcomes = [
        Outcome(
            rule=test.rule.number,
            test=test.name,
            status=ends.get(test.rule.number, Status.PASSED),
            assertion=f"what {test.rule.number} promises",
        )
        for test in collect_tests()
    ]
    return Attempt(saboteur=SABOTEURS[name], outcomes=tuple(outcomes))


def test_the_matrix_names_every_rule_that_caught_a_saboteur() -> None:
    """Its own rule comes first, then the others, each with the assertion."""
    lines = lines_of(attempt_of("gives-one-more", {"R8": Status.FAILED, "R24": Status.FAILED}))

    assert lines[0].startswith("gives-one-more was caught by R24 (")
    assert lines[0].endswith("): what R24 promises")
    assert {line.partition(" (")[0] for line in lines[1:]} == {"  and by R24", "  and by R8"}


def test_an_error_is_no_catch() -> None:
    """A saboteur that makes its rule's tests stumble was not caught by them."""
    attempt = attempt_of("gives-one-more", {"R24": Status.ERROR, "R8": Status.FAILED})

    assert faults_of(attempt) == ["not caught"]
    assert "gives-one-more (R24: " in lines_of(attempt)[0]


def test_a_saboteur_that_breaks_everything_proves_nothing() -> None:
    """It must pass four fifths of the other rules that it can run."""
    numbers = sorted({test.rule.number for test in collect_tests()})
    attempt = attempt_of("gives-one-more", dict.fromkeys((*numbers[: len(numbers) // 3], "R24"), Status.FAILED))

    assert [fault.partition(" of ")[0].split()[:2] for fault in faults_of(attempt)] == [["passes", "only"]]


def test_an_angel_may_not_be_caught() -> None:
    """By no rule; what it does not offer is no fault of it."""
    good = attempt_of("pushes-nothing", {"R124": Status.NOT_OFFERED})
    caught = attempt_of("pushes-nothing", {"R30": Status.FAILED})

    assert lines_of(good) == ["pushes-nothing passes everything"]
    assert lines_of(caught)[0] == "pushes-nothing is an angel, and was caught"
