"""The values that cross the seam: what they refuse, and the one form that they bring things into (level V)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from pannier import Command, JobRecord, JobResult, JobStatus, TrackableJob
from pannier.claims import Claim, Demand
from pannier.codec import ConverterCodec
from pannier.errors import DecodingError, EncodingError
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import (
    COMPLETE,
    KEPT_ERRORS,
    MESSAGE_BYTES,
    PRIORITIES,
    TRACEBACK_BYTES,
    JobError,
    Json,
    Lease,
    Payload,
)
from pannier.settlements import Failed, Retry, Settlement, Succeeded
from pannier.transitions import with_error

T0 = datetime(2030, 1, 1, tzinfo=UTC)
ID = UUID(int=7)
KATHMANDU = timezone(timedelta(hours=5, minutes=45))
ERROR = JobError(attempt=1, at=T0, kind="ValueError", message="no")

REQUIRED: Mapping[str, Any] = {
    "tracking_id": ID,
    "queue_id": "mail",
    "command": Payload({"to": "Ada"}),
    "execute_after": T0,
    "expire_on": None,
    "created_at": T0,
}
CLAIM: Mapping[str, Any] = {
    "demands": (Demand(("mail",), 1),),
    "worker_id": "w",
    "now": T0,
    "lease_for": timedelta(seconds=30),
    "look_ahead": timedelta(0),
}
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  # the point of the tests that use it


def job(**fields: Any) -> JobRecord:  # wrong values are what it is for
    """Return a job with *fields* besides the required ones."""
    return JobRecord(**{**REQUIRED, **fields})


def test_a_job_has_the_documented_defaults() -> None:
    """R2: pending, never claimed, due when it may start."""
    made = job()
    assert (made.status, made.attempt, made.lapses, made.fence, made.priority) == (JobStatus.PENDING, 0, 0, 0, 0)
    assert made.dequeue_after == made.execute_after
    assert (made.idempotency_key, made.metadata, made.worker_id, made.errors) == (None, {}, None, ())
    assert (made.progress, made.result, made.finished_at, made.is_complete) == (None, None, None, False)


@pytest.mark.parametrize(
    ("fields", "error", "complaint"),
    [
        ({"tracking_id": "7"}, TypeError, "tracking_id must be a UUID, not str"),
        ({"queue_id": ""}, ValueError, "queue_id must not be empty"),
        ({"queue_id": 5}, TypeError, "queue_id must be a str, not int"),
        ({"queue_id": "q" * 256}, ValueError, "queue_id must have at most 255 characters, not 256"),
        ({"command": {"to": "Ada"}}, TypeError, "command must be a Payload, not dict"),
        ({"execute_after": NAIVE}, ValueError, "execute_after must be an aware datetime"),
        ({"execute_after": "now"}, TypeError, "execute_after must be a datetime, not str"),
        ({"created_at": NAIVE}, ValueError, "created_at must be an aware datetime"),
        ({"dequeue_after": NAIVE}, ValueError, "dequeue_after must be an aware datetime"),
        ({"expire_on": NAIVE}, ValueError, "expire_on must be an aware datetime"),
        ({"expire_on": T0}, ValueError, "must lie after execute_after"),
        ({"expire_on": T0 - timedelta(microseconds=1)}, ValueError, "must lie after execute_after"),
        ({"priority": 101}, ValueError, "priority must be from -100 to 100, not 101"),
        ({"priority": -101}, ValueError, "priority must be from -100 to 100, not -101"),
        ({"priority": True}, TypeError, "priority must be an int, not bool"),
        ({"priority": 1.0}, TypeError, "priority must be an int, not float"),
        ({"attempt": -1}, ValueError, "attempt must be at least 0, not -1"),
        ({"lapses": -1}, ValueError, "lapses must be at least 0, not -1"),
        ({"fence": -1}, ValueError, "fence must be at least 0, not -1"),
        ({"idempotency_key": 5}, TypeError, "idempotency_key must be a str, not int"),
        ({"worker_id": 5}, TypeError, "worker_id must be a str, not int"),
        ({"progress": 5}, TypeError, "progress must be a Payload, not int"),
        ({"result": 5}, TypeError, "result must be a Payload, not int"),
        ({"metadata": {"tenant": 5}}, TypeError, r"metadata\['tenant'\] must be a str, not int"),
        ({"metadata": {5: "tenant"}}, TypeError, "metadata keys must be a str, not int"),
        ({"metadata": [("tenant", "acme")]}, TypeError, "metadata must be a mapping, not list"),
        ({"status": "pending"}, TypeError, "status must be a JobStatus, not str"),
        ({"status": JobStatus.FAILED}, ValueError, "finished_at must be set if and only if"),
        ({"finished_at": T0}, ValueError, "finished_at must be set if and only if"),
        ({"errors": [ERROR]}, TypeError, "errors must be a tuple, not list"),
        ({"errors": ("no",)}, TypeError, "errors must be a JobError, not str"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(
    fields: Mapping[str, object], error: type[Exception], complaint: str
) -> None:
    """R80, R106: before anything is sent anywhere, and so that the caller knows which argument it was."""
    with pytest.raises(error, match=complaint):
        job(**fields)


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_every_priority_from_minus_100_to_100_is_taken(priority: int) -> None:
    """R26: the ends are inside."""
    assert job(priority=priority).priority in PRIORITIES


@pytest.mark.parametrize("key", ["", " ", "\t\n", "\u3000"])
def test_a_blank_key_is_none(key: str) -> None:
    """R13: as in the original; whoever leaves it blank means no deduplication."""
    assert job(idempotency_key=key).idempotency_key is None


@pytest.mark.parametrize("key", ["a ", " a", "A", "é", "e\u0301", "k" * 600])
def test_any_other_key_stays_as_it_is(key: str) -> None:
    """R17: nothing is folded, stripped or cut."""
    assert job(idempotency_key=key).idempotency_key == key


def test_instants_of_any_zone_are_kept_in_utc() -> None:
    """R79: the instant is the same, its form is one."""
    made = job(execute_after=T0.astimezone(KATHMANDU), expire_on=(T0 + timedelta(hours=1)).astimezone(KATHMANDU))
    assert made.execute_after == T0
    assert made.execute_after.tzinfo is UTC
    assert made.expire_on is not None
    assert made.expire_on.tzinfo is UTC


def test_metadata_is_a_copy() -> None:
    """R3: the caller's own dict may change."""
    given_ = {"tenant": "acme"}
    made = job(metadata=given_)
    given_["tenant"] = "other"
    assert made.metadata == {"tenant": "acme"}


def test_a_job_can_not_be_changed() -> None:
    """A record is a value; a transition makes another one."""
    with pytest.raises(AttributeError):
        job().attempt = 5  # type: ignore[misc]


def test_the_lease_of_a_claimed_job_names_its_fence() -> None:
    """Whoever claimed it writes under this."""
    assert job(fence=3, attempt=1, status=JobStatus.RUNNING).lease == Lease(ID, 3)


@pytest.mark.parametrize("status", JobStatus)
def test_a_status_is_complete_if_it_ends_a_job(status: JobStatus) -> None:
    """Four of the six do."""
    assert status.is_complete is (status in COMPLETE)
    assert (status in {JobStatus.PENDING, JobStatus.RUNNING}) is not status.is_complete


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ((1, 2), TypeError),
        ({1: 2}, TypeError),
        ({"x": T0}, TypeError),
        ([object()], TypeError),
        (bytearray(b"x"), TypeError),
        (float("nan"), ValueError),
        ([1, {"x": float("-inf")}], ValueError),
    ],
)
def test_a_payload_holds_json_or_bytes_only(data: Any, error: type[Exception]) -> None:
    """R104: what JSON has no form for is refused when the value is made."""
    with pytest.raises(error, match="data holds"):
        Payload(data)


def test_a_payload_that_holds_itself_is_refused() -> None:
    """It has no end."""
    data: list[Any] = []
    data.append({"again": data})
    with pytest.raises(ValueError, match="a cycle"):
        Payload(data)


def test_one_tree_in_two_places_of_a_payload_is_no_cycle() -> None:
    """It is written twice."""
    shared: Json = {"x": [1]}
    assert Payload({"a": shared, "b": [shared, shared]}).data == {"a": shared, "b": [shared, shared]}


@pytest.mark.parametrize("encoding", ["", None, 5])
def test_an_encoding_has_a_name(encoding: Any) -> None:
    """A payload without one could be read by nobody."""
    with pytest.raises(TypeError, match="encoding must be a non-empty str"):
        Payload(1, encoding)


@pytest.mark.parametrize(("fence", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_a_lease_has_a_fence_of_at_least_one(fence: Any, error: type[Exception]) -> None:
    """R106: 0 is "never claimed", and never a lease."""
    with pytest.raises(error, match="fence must be"):
        Lease(ID, fence)


@pytest.mark.parametrize(
    ("fields", "error", "complaint"),
    [
        ({"demands": [Demand(("mail",), 1)]}, TypeError, "demands must be a tuple"),
        ({"demands": ("mail",)}, TypeError, "demands must be a Demand"),
        ({"demands": (Demand(("a", "b"), 1), Demand(("b",), 1))}, ValueError, "name the queue 'b' twice"),
        ({"demands": (Demand(("a", "a"), 1),)}, ValueError, "name the queue 'a' twice"),
        ({"worker_id": ""}, ValueError, "worker_id must not be empty"),
        ({"now": NAIVE}, ValueError, "now must be an aware datetime"),
        ({"lease_for": timedelta(0)}, ValueError, "lease_for must be more than 0"),
        ({"lease_for": 30}, TypeError, "lease_for must be a timedelta, not int"),
        ({"look_ahead": timedelta(seconds=-1)}, ValueError, "look_ahead must be at least 0"),
    ],
)
def test_a_wrong_claim_is_refused(fields: Mapping[str, object], error: type[Exception], complaint: str) -> None:
    """R106: the storage is never asked."""
    with pytest.raises(error, match=complaint):
        Claim(**{**CLAIM, **fields})


@pytest.mark.parametrize(
    ("queue_ids", "limit", "error"),
    [((), 1, ValueError), (("",), 1, ValueError), ("mail", 1, TypeError), (("mail",), -1, ValueError)],
)
def test_a_wrong_demand_is_refused(queue_ids: Any, limit: int, error: type[Exception]) -> None:
    """R24, R106: at least one queue, and no negative limit; 0 asks for nothing but next_due."""
    with pytest.raises(error, match=r"queue_ids|limit"):
        Demand(queue_ids, limit)


def test_outcomes_and_settlements_check_what_they_carry() -> None:
    """A settlement that a storage could not apply is never made."""
    lease = Lease(ID, 1)
    with pytest.raises(TypeError, match="result must be a Payload"):
        Succeeded("done")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="error must be a JobError"):
        Failed("no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at must be an aware datetime"):
        Retry(NAIVE, ERROR)
    with pytest.raises(TypeError, match="outcome must be Succeeded, Retry, Failed or Release, not str"):
        Settlement(lease, "done")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lease must be a Lease"):
        Settlement(ID, Succeeded())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "error", "complaint"),
    [
        ({"now": NAIVE}, ValueError, "now must be an aware datetime"),
        ({"keep": {JobStatus.PENDING: timedelta(0)}}, ValueError, "only a complete status has a retention"),
        ({"keep": {JobStatus.FAILED: timedelta(-1)}}, ValueError, "must be at least 0"),
        ({"keep": {JobStatus.FAILED: 30}}, TypeError, "must be a timedelta"),
        ({"keep": None}, TypeError, "keep must be a Mapping"),
        ({"queue_ids": ["mail"]}, TypeError, "queue_ids must be a frozenset"),
        ({"limit": 0}, ValueError, "limit must be at least 1"),
    ],
)
def test_a_wrong_purge_is_refused(fields: Mapping[str, Any], error: type[Exception], complaint: str) -> None:
    """R72, R106: nothing is deleted by mistake."""
    with pytest.raises(error, match=complaint):
        StaleJobs(**{"now": T0, "keep": {}, **fields})


def test_a_filter_takes_sets_of_statuses() -> None:
    """What is no status is refused, by the field's name (R106)."""
    assert JobFilter(statuses=frozenset({JobStatus.FAILED})).statuses == frozenset({JobStatus.FAILED})
    with pytest.raises(ValueError, match=r"statuses .* 'asleep'"):
        JobFilter(statuses=frozenset({"asleep"}))  # type: ignore[arg-type]


@given(st.text(), st.text(), st.text())
def test_the_texts_of_an_error_can_be_stored_anywhere(kind: str, message: str, traceback: str) -> None:
    """R54: UTF-8 without NUL, within their limits."""
    error = JobError(attempt=1, at=T0, kind=kind, message=message, traceback=traceback)
    for text, limit in (
        (error.kind, MESSAGE_BYTES),
        (error.message, MESSAGE_BYTES),
        (error.traceback, TRACEBACK_BYTES),
    ):
        assert "\0" not in text
        assert len(text.encode()) <= limit


def test_a_message_keeps_its_start_and_a_traceback_its_end() -> None:
    """R54: there stands what helps; characters are never torn."""
    error = JobError(attempt=1, at=T0, kind="E", message="é" * 5_000, traceback="é" * 10_000 + "the fault")
    assert error.message.startswith("éé")
    assert error.message.endswith("é...")
    assert error.traceback.startswith("...é")
    assert error.traceback.endswith("the fault")


def test_nul_and_lone_surrogates_are_written_out() -> None:
    """R54: some engines refuse the one, UTF-8 the other."""
    assert JobError(attempt=1, at=T0, kind="E", message="a\0b\ud800é").message == "a\\x00b\\ud800é"


def test_the_last_ten_errors_are_kept() -> None:
    """R54: the oldest go first."""
    errors: tuple[JobError, ...] = ()
    for attempt in range(1, KEPT_ERRORS + 4):
        errors = with_error(errors, evolve(ERROR, attempt=attempt))
    assert [error.attempt for error in errors] == list(range(4, KEPT_ERRORS + 4))


@frozen
class Resize(Command[str]):
    """An attrs class."""

    path: str


@dataclass(frozen=True)
class Count(Command[list[int]]):
    """A dataclass."""

    up_to: int


@frozen
class Crunch(TrackableJob[JobResult[int]]):
    """Carries its tracking id."""

    number: int = 0


@pytest.mark.parametrize("command", [Resize("cat.png"), Count(3)])
def test_a_command_is_written_and_read_through_a_codec(command: Resize | Count) -> None:
    """The original's SetCommand and GetCommand."""
    codec = ConverterCodec()
    assert job().with_command(command, codec).get_command(type(command), codec) == command


def test_a_command_that_carries_its_tracking_id_gets_it_back() -> None:
    """It is not among the stored fields; the job knows it."""
    codec = ConverterCodec()
    assert job().with_command(Crunch(3), codec).get_command(Crunch, codec).tracking_id == ID


def test_another_command_is_a_clear_error() -> None:
    """What is stored is read as what is asked for, or not at all."""
    codec = ConverterCodec()
    with pytest.raises(DecodingError, match="Resize"):
        job().with_command(Count(3), codec).get_command(Resize, codec)


def test_a_result_is_written_and_read_through_a_codec() -> None:
    """The original's SetResult and GetResult; None until there is one."""
    codec = ConverterCodec()
    assert job().get_result(str, codec) is None
    assert job().with_result("done", codec).get_result(str, codec) == "done"
    assert job().with_result([1, 2], codec, declared=list[int]).get_result(list[int], codec) == [1, 2]


def test_a_result_of_another_type_is_a_clear_error() -> None:
    """In both directions."""
    codec = ConverterCodec()
    with pytest.raises(DecodingError, match="str"):
        job().with_result(5, codec).get_result(str, codec)
    with pytest.raises(EncodingError, match="str"):
        job().with_result(5, codec, declared=str)
