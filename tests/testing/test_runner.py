"""The first look at a storage, before any rule is tried."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from pannier.claims import Claim, Claimed
from pannier_testing import runner
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.subject import Subject
from tests.testing.test_certify import certify


class Hangs(ReferenceProvider):
    """Never answers a claim."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        await asyncio.Event().wait()
        raise AssertionError(claim)


def test_a_storage_that_hangs_when_it_is_first_used_is_told_by_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that never comes back ends the look, and the error names it."""
    monkeypatch.setattr(runner, "PATIENCE", timedelta(seconds=0.1))
    monkeypatch.setattr(Subject, "create", lambda _, url: Hangs(Shelf(Model())))
    subject = Subject(label="hangs", url_for=lambda place: place.fill("memory://{namespace}"))

    with pytest.raises(TimeoutError, match=re.escape("claim_jobs() had not answered after 0.1 s")):
        runner.measure(subject)


def test_a_storage_that_cannot_be_used_at_all_is_tried_once(tmp_path: Path) -> None:
    """Its first error is told in full, and that of every further rule in a line."""
    nobody = "postgresql://127.0.0.1:1/nobody?schema={namespace}&timeout=1"

    ran = certify(nobody, "--rule", "R2", "--rule", "R29", cwd=tmp_path)

    assert ran.stdout.count("E           pannier.errors.StorageUnavailableError: ") == 1, ran.stdout
    assert ran.stdout.count("\nnot tried: ") == 2, ran.stdout
