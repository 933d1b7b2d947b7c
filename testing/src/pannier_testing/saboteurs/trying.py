"""Holding a saboteur to rules, in this process: whether the rule that it breaks catches it, by its own assertion."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import evolve, frozen

from pannier_testing.rules import RuleTest, collect_tests
from pannier_testing.runner import Outcome, Settings, Status, measure, run_test
from pannier_testing.saboteurs.making import Saboteur
from pannier_testing.saboteurs.plugin import PATH
from pannier_testing.subject import Subject
from pannier_testing.trial import Measured


@frozen(kw_only=True)
class Attempt:
    """
    What some tests found of a saboteur.

    Attributes:
        saboteur: Who was tried.
        outcomes: How the tests ended, in their order.
    """

    saboteur: Saboteur
    outcomes: tuple[Outcome, ...]

    @property
    def kills(self) -> tuple[Outcome, ...]:
        """The tests that caught it: by their own assertion, not by an error or a hang."""
        return tuple(outcome for outcome in self.outcomes if outcome.status is Status.FAILED)

    @property
    def kill(self) -> Outcome | None:
        """The first test of the rule that it breaks that caught it."""
        return next((outcome for outcome in self.kills if outcome.rule == self.saboteur.breaks), None)

    def __str__(self) -> str:
        caught = self.kill
        if caught is not None:
            return f"{self.saboteur.name} was caught by {caught.rule} ({caught.test}): {caught.assertion}"
        told = [f"  {o.rule} {o.test}: {o.status} {o.message}" for o in self.outcomes]
        return "\n".join([f"{self.saboteur.name} ({self.saboteur.breaks}: {self.saboteur.does}) was not caught", *told])


def try_mapped_rule(saboteur: Saboteur, settings: Settings) -> Attempt:
    """Run the tests of the rule that *saboteur* breaks, until one catches it."""
    tests = [test for test in collect_tests() if test.rule.number == saboteur.breaks]
    outcomes: list[Outcome] = []
    with _standing(saboteur, settings) as stand:
        for test in tests:
            outcomes.append(stand.run(test))
            if outcomes[-1].status is Status.FAILED:
                break
    return Attempt(saboteur=saboteur, outcomes=tuple(outcomes))


def try_tests(saboteur: Saboteur, tests: Sequence[RuleTest], settings: Settings) -> Attempt:
    """Run all of *tests*."""
    with _standing(saboteur, settings) as stand:
        return Attempt(saboteur=saboteur, outcomes=tuple(map(stand.run, tests)))


@frozen
class _Stand:
    """A saboteur that is ready to be tried."""

    subject: Subject
    measured: Measured
    settings: Settings

    def run(self, test: RuleTest) -> Outcome:
        """Run one test."""
        return run_test(test, self.subject, self.measured, self.settings)


@contextmanager
def _standing(saboteur: Saboteur, settings: Settings) -> Iterator[_Stand]:
    with saboteur.running() as template:
        subject = Subject(
            label=saboteur.name,
            url_for=lambda place: place.fill(template),
            adapters=(PATH,),
            damage=saboteur.aids.damage,
            store_size=saboteur.aids.store_size,
            earlier_stores=saboteur.aids.earlier_stores,
            make_newer=saboteur.aids.make_newer,
            unknown_fields=saboteur.aids.unknown_fields,
            repeat=lambda number, seed: f"python -m pannier_testing.saboteurs {saboteur.name} --seed {seed} # {number}",
        )
        yield _Stand(subject, measure(subject), evolve(settings, values=saboteur.values))
