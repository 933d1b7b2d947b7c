"""`pannier jobs`: list, show, cancel and requeue."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from uuid import UUID, uuid4

import pytest

from pannier import JobRecord, JobStatus

from .conftest import Ended

Run = Callable[..., Ended]
Queue = Callable[..., list[UUID]]
Stored = Callable[[UUID], JobRecord | None]


def lines_of(ended: Ended) -> list[dict[str, object]]:
    """Return the lines of JSON that a command has printed."""
    return [json.loads(line) for line in ended.out.splitlines()]


def ids_of(ended: Ended) -> set[object]:
    """Return the tracking ids of the jobs that a command has printed as JSON."""
    return {line["tracking_id"] for line in lines_of(ended)}


def test_a_listing_names_every_job(pannier: Run, shop: ModuleType, queue: Queue, url: str) -> None:
    """Each job stands in the listing with its id, queue and status."""
    ids = queue(shop.Greet("Ada"), shop.Refuse("no"))

    ended = pannier("jobs", "list", url)

    assert ended.code == 0
    assert all(str(tracking_id) in ended.out for tracking_id in ids)
    assert "Greet" in ended.out
    assert "pending" in ended.out


def test_a_listing_is_filtered_by_queue_status_and_metadata(
    pannier: Run, shop: ModuleType, queue: Queue, worked: Queue, url: str
) -> None:
    """Only jobs that meet every filter are listed."""
    worked(shop.Greet("done"))
    queue(shop.Greet("other tenant"), metadata={"tenant": "b"})
    queue(shop.Refuse("other queue"), metadata={"tenant": "a"})
    [wanted] = queue(shop.Greet("wanted"), metadata={"tenant": "a"})

    ended = pannier("jobs", "list", url, "--queue=Greet", "--status=pending", "--metadata=tenant=a", "--json")

    assert ids_of(ended) == {str(wanted)}


def test_a_listing_that_is_cut_says_so(pannier: Run, shop: ModuleType, queue: Queue, url: str) -> None:
    """--limit cuts the listing, and a line on stderr says that there is more."""
    queue(*(shop.Greet(f"number {number}") for number in range(3)))

    ended = pannier("jobs", "list", url, "--limit=2", "--json")

    assert len(lines_of(ended)) == 2
    assert "more than 2" in ended.err


def test_a_listing_that_is_whole_says_nothing_of_a_limit(
    pannier: Run, shop: ModuleType, queue: Queue, url: str
) -> None:
    """A limit that is just reached cuts nothing."""
    queue(*(shop.Greet(f"number {number}") for number in range(3)))

    ended = pannier("jobs", "list", url, "--limit=3", "--json")

    assert len(lines_of(ended)) == 3
    assert ended.err == ""


@pytest.mark.parametrize("command", ["list", "show"])
@pytest.mark.parametrize("layout", [(), ("--json",)])
def test_payloads_are_not_shown_unasked(
    pannier: Run, shop: ModuleType, worked: Queue, url: str, command: str, layout: tuple[str, ...]
) -> None:
    """A command or a result may hold what a terminal or a log must not."""
    [tracking_id] = worked(shop.Greet("Rumpelstilzchen"))

    ended = pannier("jobs", command, url, *[tracking_id][: command == "show"], *layout)

    assert str(tracking_id) in ended.out
    assert "Rumpelstilzchen" not in ended.out


def test_payloads_are_shown_as_they_are_stored_where_asked_for(
    pannier: Run, shop: ModuleType, worked: Queue, url: str
) -> None:
    """--payloads adds command and result, with the names of their encodings."""
    [tracking_id] = worked(shop.Greet("Ada"))

    [line] = lines_of(pannier("jobs", "show", url, tracking_id, "--payloads", "--json"))

    assert line["command"] == {"encoding": "json", "data": {"name": "Ada"}}
    assert line["result"] == {"encoding": "json", "data": "hello Ada"}


def test_a_failed_job_is_shown_with_its_errors(pannier: Run, shop: ModuleType, worked: Queue, url: str) -> None:
    """The reason of a failure, traceback included, can be read."""
    [tracking_id] = worked(shop.Refuse("out of stock"))

    ended = pannier("jobs", "show", url, tracking_id)

    assert "failed" in ended.out
    assert "ValueError: out of stock" in ended.out
    assert "in refuse" in ended.out


def test_what_a_job_says_can_not_drive_the_terminal(pannier: Run, shop: ModuleType, worked: Queue, url: str) -> None:
    """Control characters in an error are written out."""
    [tracking_id] = worked(shop.Refuse("\x1b[2Jgone\a"))

    ended = pannier("jobs", "show", url, tracking_id)

    assert r"\x1b[2Jgone\x07" in ended.out
    assert "\x1b" not in ended.out


def test_a_job_that_is_not_there_is_told_on_stderr(pannier: Run, shop: ModuleType, queue: Queue, url: str) -> None:
    """Those that are there are shown nevertheless; the exit code is 1."""
    [known] = queue(shop.Greet("Ada"))
    unknown = uuid4()

    ended = pannier("jobs", "show", url, unknown, known, "--json")

    assert ended.code == 1
    assert ids_of(ended) == {str(known)}
    assert str(unknown) in ended.err


def test_cancelling_ends_a_waiting_job(pannier: Run, shop: ModuleType, queue: Queue, stored: Stored, url: str) -> None:
    """A cancelled job is CANCELLED in the storage."""
    [tracking_id] = queue(shop.Greet("Ada"))

    ended = pannier("jobs", "cancel", url, tracking_id)

    assert (ended.code, ended.out) == (0, f"{tracking_id} cancelled\n")
    job = stored(tracking_id)
    assert job is not None
    assert job.status is JobStatus.CANCELLED


def test_cancelling_what_has_ended_fails(pannier: Run, shop: ModuleType, worked: Queue, url: str) -> None:
    """A job that is complete can't be cancelled any more, and the exit code says so."""
    [tracking_id] = worked(shop.Greet("Ada"))

    ended = pannier("jobs", "cancel", url, tracking_id)

    assert (ended.code, ended.out) == (1, f"{tracking_id} already complete\n")


def test_requeueing_makes_a_failed_job_wait_again(
    pannier: Run, shop: ModuleType, worked: Queue, stored: Stored, url: str
) -> None:
    """It is PENDING with no attempt counted, and expires 4 hours later unless told otherwise."""
    [tracking_id] = worked(shop.Refuse("no"))

    ended = pannier("jobs", "requeue", url, tracking_id)

    job = stored(tracking_id)
    assert job is not None
    assert (ended.code, job.status, job.attempt) == (0, JobStatus.PENDING, 0)
    assert job.expire_on == job.execute_after + timedelta(hours=4)


def test_a_requeued_job_may_be_told_never_to_expire(
    pannier: Run, shop: ModuleType, worked: Queue, stored: Stored, url: str
) -> None:
    """--expire-after=never leaves it without an expiry."""
    [tracking_id] = worked(shop.Refuse("no"))

    pannier("jobs", "requeue", url, tracking_id, "--expire-after=never")

    job = stored(tracking_id)
    assert job is not None
    assert job.expire_on is None


def test_requeueing_a_success_fails(pannier: Run, shop: ModuleType, worked: Queue, url: str) -> None:
    """What has succeeded is not done again."""
    [tracking_id] = worked(shop.Greet("Ada"))

    ended = pannier("jobs", "requeue", url, tracking_id)

    assert (ended.code, ended.out) == (1, f"{tracking_id} already succeeded\n")


def test_a_job_set_for_later_says_when_it_is_due(pannier: Run, shop: ModuleType, queue: Queue, url: str) -> None:
    """The listing words the due time as seen from now."""
    queue(shop.Greet("Ada"), execute_after=datetime.now(UTC) + timedelta(hours=3))

    assert "due in 3 h" in pannier("jobs", "list", url).out


def test_ids_without_a_target_take_the_one_from_the_environment(
    pannier: Run, shop: ModuleType, queue: Queue, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PANNIER_STORAGE names the target, and the ids follow the command at once."""
    ids = queue(shop.Greet("Ada"), shop.Greet("Bea"))
    monkeypatch.setenv("PANNIER_STORAGE", url)

    ended = pannier("jobs", "cancel", *ids)

    assert ended.code == 0
    assert ended.out.count("cancelled") == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "name the target"),
        ((str(uuid4()),), "name the target"),
        (("memory://",), "at least one tracking id"),
        (("memory://", "nonsense"), "'nonsense' is no tracking id"),
    ],
)
def test_missing_and_bad_ids_are_a_usage_error(pannier: Run, arguments: tuple[str, ...], complaint: str) -> None:
    """What is wrong with the words after the command is said, and the exit code is 2."""
    ended = pannier("jobs", "show", *arguments)

    assert ended.code == 2
    assert complaint in ended.err
