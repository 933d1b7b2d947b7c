"""The suite catches every storage that is wrong on purpose, and passes every one that is right."""

from collections.abc import Iterator

import pytest

from pannier_testing.rules import CONTRACT, Need, RuleTest, collect_tests
from pannier_testing.runner import Settings
from pannier_testing.saboteurs.__main__ import faults_of
from pannier_testing.saboteurs.making import Saboteur
from pannier_testing.saboteurs.plugin import collect_saboteurs
from pannier_testing.saboteurs.trying import try_mapped_rule, try_tests

SABOTEURS = [saboteur for saboteur in collect_saboteurs() if saboteur.breaks is not None]
ANGELS = [saboteur for saboteur in collect_saboteurs() if saboteur.breaks is None]


def name_of(saboteur: Saboteur) -> str:
    return f"{saboteur.breaks or 'angel'}-{saboteur.name}"


def dealt(value: Saboteur | RuleTest) -> str:
    return value.id if isinstance(value, RuleTest) else value.name


def deal() -> Iterator[tuple[Saboteur, RuleTest]]:
    """Give each test to one of the angels, those of the network to one that has a server."""
    for number, test in enumerate(collect_tests()):
        able = [angel for angel in ANGELS if angel.has_server or Need.NETWORK not in test.needs]
        yield able[number % len(able)], test


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=name_of)
def test_a_saboteur_is_caught_by_an_assertion_of_the_rule_that_it_breaks(saboteur: Saboteur) -> None:
    """A saboteur is caught by a test of the rule that it breaks, and by that test's own assertion."""
    attempt = try_mapped_rule(saboteur, Settings())

    assert attempt.kill is not None, str(attempt)


@pytest.mark.parametrize(("angel", "rule_test"), [*deal()], ids=dealt)
def test_an_angel_passes(angel: Saboteur, rule_test: RuleTest) -> None:
    """A storage that is odd but right breaks no rule: each test is dealt to one of the angels, the matrix runs all."""
    assert not faults_of(try_tests(angel, [rule_test], Settings()))


def test_saboteurs_break_rules_of_the_contract_and_have_names_of_their_own() -> None:
    """Every saboteur names a rule that there is, and says in a sentence what it does; no two share a name."""
    names = [saboteur.name for saboteur in (*SABOTEURS, *ANGELS)]

    assert len(set(names)) == len(names)
    assert {saboteur.breaks for saboteur in SABOTEURS} <= set(CONTRACT)
    assert [saboteur.name for saboteur in (*SABOTEURS, *ANGELS) if not saboteur.does.endswith(".")] == []
