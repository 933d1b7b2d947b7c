"""What the suite says of a storage that raises what it must not."""

import asyncio
import uuid

import pytest

from pannier_testing.checks import Checks, RuleBrokenError


async def find_jobs(cursor: object) -> object:
    """Look through jobs as a storage does that takes any cursor for a text."""
    return uuid.UUID(cursor)  # type: ignore[arg-type]


def test_an_unexpected_error_is_told_with_the_lines_that_it_came_through() -> None:
    """The author of a storage sees where in it to look: not where the suite called it."""
    with pytest.raises(RuleBrokenError) as broken:
        asyncio.run(Checks().answers(find_jobs([None]), "an answer"))

    assert broken.value.seen.startswith("AttributeError: 'list' object has no attribute 'replace'")
    assert "in find_jobs, test_checks.py:" in broken.value.seen
    assert "checks.py:" not in broken.value.seen.replace("test_checks.py:", "")


def test_an_error_of_another_kind_than_the_expected_is_told_with_its_lines() -> None:
    """The same where an error was due, but another one came."""
    with pytest.raises(RuleBrokenError) as broken:
        asyncio.run(Checks().raises(ValueError, find_jobs([None]), "a ValueError"))

    assert "in find_jobs, test_checks.py:" in broken.value.seen
