"""Section Q: bad arguments are refused by name, errors are pannier's own, and junk does no harm."""

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import attrs
from attrs import evolve, frozen

from pannier.claims import Claim, Demand
from pannier.errors import (
    StorageClosedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
)
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Json, Lease, Payload
from pannier.settlements import Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, WORKER, claim_of, error_at, failed
from pannier_testing.checks import show
from pannier_testing.proxy import FaultProxy
from pannier_testing.rules import Need, rule
from pannier_testing.subject import MARK, Place
from pannier_testing.trial import Trial, inspector_of, results_of
from pannier_testing.values import Values
from pannier_testing.wire import VERBS

DAY: Final = timedelta(days=1)


@frozen
class BadValue:
    """A value that can't be made: what stands in which field, and the class's other fields."""

    kind: str
    field: str
    bad: object


def bad_values() -> list[BadValue]:
    """Return the table of R106."""
    texts, numbers, spans = (None, 1, b"x"), (None, 1.0, "1", True), (None, 1, 1.0, "1")
    instants = (None, 1, "2030-01-01", T0.date())
    return [
        *_each("job_record", "tracking_id", None, 1, str(UUID(int=1))),
        *_each("job_record", "queue_id", *texts, "", "x" * 256),
        *_each("job_record", "command", None, {}, b"", "x"),
        *(
            bad
            for name in ("execute_after", "created_at", "dequeue_after")
            for bad in _each("job_record", name, *instants)
        ),
        *_each("job_record", "expire_on", 1, "2030-01-01", T0, T0 - SECOND),
        *_each("job_record", "priority", *numbers, -101, 101),
        *(bad for name in ("attempt", "lapses", "fence") for bad in _each("job_record", name, *numbers, -1)),
        *_each("job_record", "idempotency_key", 1, b"x"),
        *_each("job_record", "metadata", None, 1, [("a", "b")], {1: "b"}, {"a": 1}, {"a": None}),
        *_each("job_record", "status", None, "pending", 0),
        *_each("job_record", "worker_id", 1, b"x"),
        *_each("job_record", "progress", {}, b"x", "x"),
        *_each("job_record", "result", {}, b"x", "x"),
        *_each("job_record", "errors", None, [], (1,), ("x",)),
        *_each("job_record", "finished_at", T0),
        *_each("payload", "encoding", None, "", 1, b"json"),
        *_each("payload", "data", {1}, (1,), object(), {1: 2}, [{"a": {None: 1}}], T0, Payload(None), 1j),
        *_each("lease", "tracking_id", None, 1, str(UUID(int=1))),
        *_each("lease", "fence", *numbers, 0, -1),
        *_each("job_error", "attempt", *numbers),
        *_each("job_error", "at", *instants),
        *(bad for name in ("kind", "message", "traceback") for bad in _each("job_error", name, None, 1, b"x")),
        *_each("demand", "queue_ids", None, "mail", ["mail"], (), ("",), (1,), (None,)),
        *_each("demand", "limit", *numbers, -1),
        *_each("claim", "demands", None, [], Demand(("mail",), 1), (1,), ("mail",)),
        *_each("claim", "worker_id", *texts, ""),
        *_each("claim", "now", *instants),
        *_each("claim", "lease_for", *spans, timedelta(0), -SECOND),
        *_each("claim", "look_ahead", *spans, -timedelta(microseconds=1)),
        *_each("retry", "at", *instants),
        *_each("retry", "error", None, "x", ValueError("x")),
        *_each("settlement", "lease", None, UUID(int=1), 1, (UUID(int=1), 1)),
        *_each("settlement", "outcome", None, "succeeded", Succeeded, JobStatus.SUCCEEDED),
        *_each("stale_jobs", "now", *instants),
        *_each("stale_jobs", "keep", None, [], {JobStatus.PENDING: DAY}, {JobStatus.RUNNING: DAY}, {"x": DAY}),
        *_each("stale_jobs", "keep", {JobStatus.FAILED: None}, {JobStatus.FAILED: 1}, {JobStatus.FAILED: -SECOND}),
        *_each("stale_jobs", "queue_ids", "mail", ["mail"], {"mail"}, frozenset({""}), frozenset({1})),
        *_each("stale_jobs", "limit", *numbers, 0, -1),
        *_each("job_filter", "queue_ids", "mail", ["mail"], {"mail"}, frozenset({""}), frozenset({1})),
        *_each("job_filter", "statuses", JobStatus.PENDING, [JobStatus.PENDING], "pending", frozenset({"x"})),
        *_each("job_filter", "metadata", None, 1, [("a", "b")], {1: "b"}, {"a": 1}),
    ]


def _each(kind: str, field: str, *bad: object) -> list[BadValue]:
    return [BadValue(kind, field, each) for each in bad]


def good_fields() -> dict[str, dict[str, object]]:
    """Return for each value class fields of which it can be made."""
    job = JobRecord(
        tracking_id=UUID(int=1), queue_id="mail", command=Payload("x"), execute_after=T0, expire_on=None, created_at=T0
    )
    claim = claim_of("mail")
    return {
        "job_record": {field.name: getattr(job, field.name) for field in attrs.fields(JobRecord)},
        "payload": {"data": "x", "encoding": "json"},
        "lease": {"tracking_id": UUID(int=1), "fence": 1},
        "job_error": {"attempt": 1, "at": T0, "kind": "x", "message": "", "traceback": ""},
        "demand": {"queue_ids": ("mail",), "limit": 1},
        "claim": {field.name: getattr(claim, field.name) for field in attrs.fields(type(claim))},
        "retry": {"at": T0, "error": error_at()},
        "settlement": {"lease": Lease(UUID(int=1), 1), "outcome": Release()},
        "stale_jobs": {"now": T0, "keep": {}, "queue_ids": None, "limit": 1},
        "job_filter": {"queue_ids": None, "statuses": None, "metadata": {}},
    }


@rule("R106")
async def bad_arguments_are_refused_when_the_value_is_made(trial: Trial) -> None:
    """Wrong types and impossible values are a TypeError or ValueError that names the field, before any I/O."""
    good = good_fields()
    for name, fields in good.items():
        made = getattr(trial.values, name)(**fields)
        trial.check.true(
            all(getattr(made, field) == value for field, value in fields.items()),
            f"a good {name} can be made, its fields as they were given",
            expected=show(fields),
            seen=show(made),
        )
    for bad in bad_values():
        trial.check.refuses(
            lambda bad=bad: getattr(trial.values, bad.kind)(**good[bad.kind] | {bad.field: bad.bad}),  # type: ignore[misc]
            (TypeError, ValueError),
            f"a {bad.kind} with {bad.field}={show(bad.bad)} is refused",
            naming=bad.field,
        )


@rule("R106")
async def no_queue_stands_twice_in_a_claim(trial: Trial) -> None:
    """A queue id twice in one demand, or in two demands of a claim, is a ValueError; a limit of 0 is none."""
    for queue_ids in ((("mail", "mail"),), (("mail",), ("mail",)), (("a", "mail"), ("b",), ("mail", "c"))):
        demands = tuple(Demand(each, 1) for each in queue_ids)
        trial.check.refuses(
            lambda demands=demands: _claim(trial.values, demands),  # type: ignore[misc]
            ValueError,
            f"a claim of {queue_ids} is refused",
            naming="mail",
        )
    made = trial.values.demand(("mail", "mail.old"), 0)
    trial.check.equal(made.limit, 0, "a demand with a limit of 0 can be made")
    made_claim = _claim(trial.values, ())
    trial.check.equal(made_claim.demands, (), "a claim without demands can be made")


def _claim(values: Values, demands: tuple[Demand, ...]) -> Claim:
    return values.claim(demands=demands, worker_id=WORKER, now=T0, lease_for=LEASE, look_ahead=DAY)


SECRET: Final = "correct-horse-7d1f"  # noqa: S105  # of nothing: it must not come out again
"""Stands in passwords and payloads; no message and no repr may tell it."""


def check_no_secret(trial: Trial, shown: object, secrets: Sequence[str], which: str) -> None:
    """Check that neither str() nor repr() of *shown* tells one of *secrets*."""
    for text in (str(shown), repr(shown)):
        for secret in secrets:
            trial.check.true(
                secret not in text,
                f"{which} tells no password and no payload",
                expected=f"a text without {secret!r}",
                seen=text[:500],
            )


@rule("R107")
async def an_error_tells_no_payload(trial: Trial) -> None:
    """What is refused is refused by an error of pannier's, which can't be retried and does not tell the value."""
    storage = await trial.open()
    check_no_secret(trial, storage, _passwords(trial.url), "the storage")
    deep: Json = SECRET
    for _ in range(20_000):
        deep = [deep]
    job = trial.job(trial.queue())
    refused: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("a deep payload", lambda: storage.store_jobs([evolve(job, command=Payload([SECRET, deep]))])),
        (
            "metadata with a lone surrogate",
            lambda: storage.store_jobs([evolve(job, metadata={SECRET: f"{SECRET}\ud800"})]),
        ),
        ("a key with NUL", lambda: storage.store_jobs([evolve(job, idempotency_key=f"{SECRET}\0\udfff")])),
        ("a huge integer", lambda: storage.store_jobs([evolve(job, command=Payload([SECRET, 10**5000]))])),
        ("a worker with a lone surrogate", lambda: acts.claim(storage, job.queue_id, worker=f"{SECRET}\ud800\0")),
    ]
    for which, call in refused:
        error = await _error_of(trial, call(), which)
        if error is not None:
            trial.check.true(
                not error.retryable,
                f"the error that refuses {which} says that trying again is no use",
                expected="retryable is False",
                seen=repr(error),
            )
            check_no_secret(trial, error, [SECRET], f"the error that refuses {which}")


async def _error_of(trial: Trial, call: Awaitable[object], which: str) -> StorageError | None:
    """Return the StorageError that *call* raises, if any; another one breaks the rule."""

    async def caught() -> StorageError | None:
        try:
            await call
        except StorageError as error:
            return error
        return None

    return await trial.check.answers(caught(), f"{which}: an answer, or an error of pannier's")


def _passwords(url: str) -> list[str]:
    password = urlsplit(url).password
    return [password] if password else []


@rule("R107")
async def a_result_s_error_tells_no_payload(trial: Trial) -> None:
    """The same of a result that is refused, and of leases that are lost."""
    storage = await trial.open()
    deep: Json = SECRET
    for _ in range(20_000):
        deep = {SECRET: deep}
    job = await trial.started(storage)
    error = await _error_of(trial, acts.settle(storage, job, Succeeded(Payload(deep))), "a deep result")
    if error is not None:
        check_no_secret(trial, error, [SECRET], "the error that refuses a deep result")
    if trial.offers(Need.RESULTS):
        call = results_of(storage).store_progress(job.lease, Payload(deep))
        error = await _error_of(trial, call, "deep progress")
        check_no_secret(trial, error, [SECRET], "the error that refuses deep progress")
    closed = trial.create()
    unopened = await _error_of(trial, closed.get_job(job.tracking_id), "a call before open()")
    trial.check.true(
        isinstance(unopened, StorageClosedError),
        "a call before open() is an error of pannier's",
        expected="StorageClosedError",
        seen=repr(unopened),
    )
    check_no_secret(trial, closed, _passwords(trial.url), "an unopened storage")


@rule("R107")
async def a_storage_that_cannot_be_opened_says_so(trial: Trial) -> None:
    """Where a file stands for the folder, or nobody listens, open() raises pannier's error, the driver's its cause."""
    if trial.offers(Need.NETWORK):
        with FaultProxy(trial.url, trial.place.tmp) as proxy:
            nobody = proxy.url
        error = await _error_of_opening(trial, nobody, "where nobody listens")
        trial.check.true(
            isinstance(error, StorageUnavailableError) and error.retryable,
            "the error of opening a storage where nobody listens",
            expected="StorageUnavailableError, retryable",
            seen=repr(error),
        )
    else:
        with tempfile.NamedTemporaryFile(prefix=MARK) as file:
            there = trial.subject.url_for(Place(trial.place.namespace, Path(file.name)))
            await _error_of_opening(trial, there, "whose folder is a file")


async def _error_of_opening(trial: Trial, url: str, which: str) -> StorageError | None:
    """Open a storage *url*, and return the error, if any; it keeps its cause and tells no password."""
    storage = trial.create(url)
    check_no_secret(trial, storage, _passwords(url), f"a storage {which}")
    error = await _error_of(trial, storage.open(), f"opening a storage {which}")
    if error is not None:
        check_no_secret(trial, error, _passwords(url), f"the error of opening a storage {which}")
        trial.check.true(
            error.__cause__ is not None,
            f"the error of opening a storage {which} keeps its cause",
            expected="the driver's error as __cause__",
            seen=repr(error),
        )
    return error


@rule("R107", needs=frozenset({Need.NETWORK}))
async def a_wrong_password_is_refused_without_telling_it(trial: Trial) -> None:
    """A wrong password, where the server minds, is StorageRefusedError and not retryable; it is not told."""
    parts = urlsplit(trial.url)
    _, _, server = parts.netloc.rpartition("@")
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username or 'user'}:{SECRET}@{server}"))
    storage = trial.create(wrong)
    error = await _error_of(trial, storage.open(), "opening with a wrong password")
    trial.check.true(
        error is None or (isinstance(error, StorageRefusedError) and not error.retryable),
        "a wrong password is refused, and trying again is no use",
        expected="StorageRefusedError, not retryable",
        seen=repr(error),
    )
    for shown in (error, storage):
        check_no_secret(trial, shown, [SECRET, *_passwords(trial.url)], "what is told of a wrong password")


JUNK: Final[tuple[object, ...]] = (
    *(None, True, 0, -1, 2**70, 1.5, float("nan"), "", "x", "\0", "\ud800", b"x", [], {}, (), set(), frozenset()),
    *([None], (1,), {"a": 1}, ["x"], object(), object, ValueError("x"), len, Ellipsis, 1j),
    *(T0.replace(tzinfo=None), T0.date(), timedelta(0), -DAY, timedelta.max, UUID(int=0), UUID(int=2**128 - 1)),
    *(JobStatus.FAILED, Payload(None), Lease(UUID(int=5), 2**63), Lease(UUID(int=5), 1), JobFilter(), "x" * 100_000),
    *(claim_of("x"), failed(), Release(), Demand(("x",), 1), StaleJobs(now=T0, keep={}), ("a", "b"), [[]]),
)


@rule("R108", deadline=timedelta(seconds=120))
async def junk_does_no_harm(trial: Trial) -> None:
    """Junk in any argument of any verb, in any order: an answer or a documented error, and the store is as it was."""
    storage = await trial.open()
    bystanders = [await trial.brought_to(storage, status) for status in JobStatus]
    calls = [
        (verb, arguments)
        for verb in VERBS
        if hasattr(storage, verb)
        for arguments in _spoilt(_good_arguments(trial, verb), trial.rng)
    ]
    trial.rng.shuffle(calls)
    for verb, arguments in calls:
        which = f"{verb}({', '.join(f'{name}={show(value)}' for name, value in arguments.items())})"
        await trial.check.answers(
            _documented(storage, verb, arguments), f"{which}: an answer, or TypeError, ValueError or StorageError"
        )
    trial.check.equal(await trial.read(storage, *bystanders), bystanders, "jobs that no junk was about")
    if trial.offers(Need.INSPECT):
        await _check_counts(trial, storage)
    job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, Succeeded())


@rule("R108")
async def a_call_that_is_refused_changes_nothing(trial: Trial) -> None:
    """Junk beside a lease that stands: where the call raises, the job is as it was, and its lease still counts."""
    storage = await trial.open()
    job = await trial.started(storage)
    for junk in JUNK:
        for which, call in _calls_with_junk(trial, storage, job, junk):
            name = f"{which} with {show(junk)}"
            if await trial.check.answers(_is_refused(call()), f"{name}: TypeError, ValueError or StorageError"):
                trial.check.equal(await trial.read(storage, job), [job], f"a job after {name} was refused")
            else:
                job = await trial.started(storage)
    await acts.must_settle(trial.check, storage, job, Succeeded(), now=T0 + SECOND)


def _calls_with_junk(
    trial: Trial, storage: JobStorageProvider, job: JobRecord, junk: Any
) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    """Return calls about the running *job*, each with *junk* in one place."""
    lease, done = job.lease, Settlement(job.lease, Succeeded())
    calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("a settlement's now", lambda: storage.settle_jobs([done], now=junk)),
        ("a renewal's now", lambda: storage.renew_leases([lease], now=junk, lease_for=MINUTE)),
        ("a renewal's lease_for", lambda: storage.renew_leases([lease], now=T0, lease_for=junk)),
        ("a cancel's now", lambda: storage.cancel_job(job.tracking_id, now=junk)),
    ]
    if trial.offers(Need.ATOMIC_BATCHES):
        calls += [
            ("a settlement's neighbour", lambda: storage.settle_jobs([done, junk], now=T0)),
            ("a lease's neighbour", lambda: storage.renew_leases([lease, junk], now=T0, lease_for=MINUTE)),
        ]
    if trial.offers(Need.RESULTS):
        calls.append(("progress", lambda: results_of(storage).store_progress(lease, junk)))
    return calls


async def _is_refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except (TypeError, ValueError, StorageError):
        return True
    return False


def _good_arguments(trial: Trial, verb: str) -> dict[str, Any]:
    """Return arguments of *verb* that harm nobody: they are about jobs and queues that are not there."""
    lease = Lease(trial.tracking_id(), 1)
    good: dict[str, dict[str, Any]] = {
        "read_clock": {},
        "store_jobs": {"jobs": [trial.job("junk")]},
        "claim_jobs": {"claim": claim_of("no such queue")},
        "renew_leases": {"leases": [lease], "now": T0, "lease_for": LEASE},
        "settle_jobs": {"settlements": [Settlement(lease, Succeeded())], "now": T0},
        "cancel_job": {"tracking_id": trial.tracking_id(), "now": T0},
        "get_job": {"tracking_id": trial.tracking_id()},
        "purge_stale_jobs": {"stale": StaleJobs(now=T0, keep={})},
        "store_progress": {"lease": lease, "progress": Payload("x")},
        "get_job_result": {"tracking_id": trial.tracking_id()},
        "find_jobs": {"wanted": JobFilter(), "cursor": None, "limit": 10},
        "count_jobs": {"wanted": JobFilter()},
        "requeue_job": {"tracking_id": trial.tracking_id(), "now": T0, "expire_on": T0 + MINUTE},
    }
    return good[verb]


def _spoilt(good: dict[str, Any], rng: Random) -> list[dict[str, Any]]:
    """Return *good* with each argument replaced by each piece of junk, and some with all of them replaced."""
    one = [good | {name: junk} for name in good for junk in JUNK]
    all_of_them = [{name: rng.choice(JUNK) for name in good} for _ in range(5)]
    mixed = [good | {name: [*value, junk]} for name, value in good.items() if isinstance(value, list) for junk in JUNK]
    return one + all_of_them + mixed


async def _documented(storage: JobStorageProvider, verb: str, arguments: dict[str, Any]) -> None:
    try:
        await getattr(storage, verb)(**arguments)
    except (TypeError, ValueError, StorageError):
        return


async def _check_counts(trial: Trial, storage: JobStorageProvider) -> None:
    """Check that what is counted is what is listed (R97)."""
    inspector = inspector_of(storage)
    listed: list[JobRecord] = []
    cursor: str | None = None
    while True:
        page = await inspector.find_jobs(JobFilter(), cursor=cursor, limit=50)
        listed += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    counts = await inspector.count_jobs(JobFilter())
    seen = [which for which, count in counts.items() for _ in range(count)]
    trial.check.counts(seen, [(job.queue_id, job.status) for job in listed], "the counts, and what is listed")
