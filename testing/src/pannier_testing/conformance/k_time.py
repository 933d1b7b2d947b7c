"""Section K: instants are instants, whatever their zone, and no clock but the caller's counts."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, TypeVar

import attrs
from hypothesis import strategies as st

from pannier.claims import Demand
from pannier.errors import UnstorableError
from pannier.records import JobRecord, JobStatus
from pannier_testing import acts, history
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, WORKER, claim_of, error_at, failed, retry
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of

T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
DAY: Final = timedelta(days=1)

KATHMANDU_SUMMER: Final = "<+0545>-5:45<+0645>-6:45,M3.5.0/2,M10.5.0/3"
"""The time of Kathmandu, given a summer time: told by its rules, so that the machine needs no list of time zones."""

CALENDAR: Final = st.datetimes(datetime(1971, 1, 1), datetime(2199, 12, 31))  # noqa: DTZ001  # a zone is added later


class Folding(tzinfo):
    """A zone where every hour comes twice: the second time (fold 1) it is an hour later."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        """Depend on the fold alone."""
        return timedelta(hours=1 if dt is not None and dt.fold else 2)

    def tzname(self, dt: datetime | None) -> str:
        """Have a name."""
        return "FOLD"

    def dst(self, dt: datetime | None) -> timedelta:
        """Be summer the first time."""
        return timedelta(hours=0 if dt is not None and dt.fold else 1)


ZONES: Final = (
    UTC,
    timezone(timedelta(hours=5, minutes=45)),
    timezone(-timedelta(hours=3, minutes=30)),
    timezone(timedelta(hours=14)),
    timezone(-timedelta(hours=12)),
    timezone(timedelta(seconds=1)),
    timezone(timedelta(hours=23, minutes=59, seconds=59)),
)


@rule("R79")
async def an_instant_is_the_same_in_any_zone(trial: Trial) -> None:
    """Jobs whose times are spelt in odd zones, the doubled hours of autumn among them, keep their instants, in UTC."""
    storage = await trial.open()
    zoned = st.builds(_spelt, CALENDAR, st.sampled_from([*ZONES, Folding()]), st.sampled_from([0, 1]))
    spelt = trial.examples(st.tuples(zoned, zoned, zoned), 40)
    jobs = [
        trial.job(
            trial.queue(),
            execute_after=min(first, second, key=_instant),
            expire_on=_later(max(first, second, key=_instant)),
            created_at=third,
        )
        for first, second, third in spelt
    ]
    await storage.store_jobs(jobs)
    for job, seen in zip(jobs, await trial.read(storage, *jobs), strict=True):
        _check_utc(trial, seen, "a stored job")
        expected = trial.as_stored(job)
        trial.check.equal(
            (seen.execute_after, seen.dequeue_after, seen.expire_on),
            (expected.execute_after, expected.dequeue_after, expected.expire_on),
            "instants in odd zones come back as the same instants",
        )
        drift = abs(seen.created_at - job.created_at)
        trial.check.true(drift < trial.tick, "created_at in an odd zone", expected=str(job.created_at), seen=seen)


def _spelt(at: datetime, zone: tzinfo, fold: int) -> datetime:
    return at.replace(tzinfo=zone, fold=fold)


def _later(at: datetime) -> datetime:
    """Return a later instant, spelt in the zone of *at*, whose own arithmetic knows no instants."""
    return (_instant(at) + SECOND).astimezone(at.tzinfo)


def _instant(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _check_utc(trial: Trial, value: object, which: str) -> None:
    for name, at in _datetimes(value, ""):
        trial.check.true(
            at.utcoffset() == timedelta(0),
            f"what a storage returns is aware and in UTC: {name or 'the instant'} of {which}",
            expected="an aware datetime in UTC",
            seen=repr(at),
        )


def _datetimes(value: object, name: str) -> Iterable[tuple[str, datetime]]:
    if isinstance(value, datetime):
        yield name, value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _datetimes(each, name)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):  # type: ignore[arg-type]  # asked only of attrs values
            yield from _datetimes(getattr(value, field.name), field.name)


@rule("R79")
async def every_verb_takes_now_in_any_zone(trial: Trial) -> None:
    """Claim, renew, settle, cancel, purge: `now` means the instant, and what is stored and returned is in UTC."""
    storage = await trial.open()
    _check_utc(trial, await storage.read_clock(), "the storage's clock")
    for zone in (*ZONES, Folding()):
        now = T0.astimezone(zone)
        job = trial.job(trial.queue(), execute_after=now)
        later = trial.job(job.queue_id, execute_after=(T0 + MINUTE).astimezone(zone))
        await storage.store_jobs([job, later])
        claimed = await storage.claim_jobs(claim_of(job.queue_id, now=now, limit=5))
        _check_utc(trial, claimed, "what a claim returned")
        [taken] = claimed.jobs
        trial.check.equal(taken.dequeue_after, T0 + LEASE, f"the lease of a claim at {now}")
        await acts.renew(storage, taken, now=now + SECOND)
        (renewed,) = await trial.read(storage, taken)
        trial.check.equal(renewed.dequeue_after, T0 + SECOND + LEASE, f"the lease of a renewal at {now + SECOND}")
        at = now + 2 * SECOND
        await acts.must_settle(trial.check, storage, taken, failed(at), now=at)
        await acts.cancelled(storage, later, now=at)
        for ended in await trial.read(storage, taken, later):
            _check_utc(trial, ended, "a finished job")
            trial.check.equal(ended.finished_at, T0 + 2 * SECOND, f"finished_at of a job that ended at {at}")
        if trial.offers(Need.INSPECT):
            await inspector_of(storage).requeue_job(taken.tracking_id, now=at, expire_on=at + DAY)
            (again,) = await trial.read(storage, taken)
            _check_utc(trial, again, "a requeued job")
            trial.check.equal(
                (again.execute_after, again.expire_on),
                (T0 + 2 * SECOND, T0 + 2 * SECOND + DAY),
                f"the times of a job requeued at {at}",
            )


@rule("R80")
async def a_naive_datetime_is_refused(trial: Trial) -> None:
    """A datetime without a zone is a ValueError that names the field, when the value is made, so nothing is stored."""
    values, naive = trial.values, T0.replace(tzinfo=None)
    job = trial.job(execute_after=T0)
    whole = {field.name: getattr(job, field.name) for field in attrs.fields(JobRecord)}
    finished: dict[str, object] = {"status": JobStatus.CANCELLED}
    makers: list[tuple[str, Callable[[], object]]] = [
        *(
            (name, lambda name=name: values.job_record(**whole | {name: naive}))
            for name in ("execute_after", "expire_on", "created_at", "dequeue_after")
        ),
        ("finished_at", lambda: values.job_record(**whole | finished | {"finished_at": naive})),
        ("at", lambda: values.job_error(attempt=1, at=naive, kind="x", message="")),
        ("at", lambda: values.retry(naive, error_at())),
        ("now", lambda: values.stale_jobs(now=naive, keep={})),
        (
            "now",
            lambda: values.claim(
                demands=(Demand(("mail",), 1),), worker_id=WORKER, now=naive, lease_for=LEASE, look_ahead=DAY
            ),
        ),
    ]
    for name, make in makers:
        trial.check.refuses(make, ValueError, f"a naive {name} is refused when the value is made", naming=name)


@rule("R81")
async def every_instant_of_the_calendar_is_exact(trial: Trial) -> None:
    """From 1970 to the last microsecond of 9999 times come back as they were; earlier ones too, or are refused."""
    storage = await trial.open()
    table = (
        EPOCH,
        EPOCH + trial.tick,
        datetime(2000, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2028, 2, 29, 12, 30, 0, 1, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        datetime(2100, 2, 28, 23, 59, 59, 123_456, tzinfo=UTC),
        datetime(5138, 11, 16, 9, 46, 39, 123_457, tzinfo=UTC),
        LAST.replace(microsecond=0),
        LAST,
        EPOCH - trial.tick,
        datetime(1900, 3, 1, tzinfo=UTC),
        datetime(1582, 10, 10, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
    )
    for at in table:
        ends = at + 7 * MINUTE + trial.tick if at.year < 9999 else None
        job = trial.job(trial.queue(), execute_after=at, created_at=at, expire_on=ends)
        stored = await _clearly(trial, storage.store_jobs([job]), f"storing a job for {at}")
        is_on_grid = (at - EPOCH) % trial.tick == timedelta(0)
        if stored is None:
            trial.check.true(
                at < EPOCH or (not is_on_grid and at > LAST - trial.tick),
                f"the instant {at} can be stored: it lies between 1970 and 9999",
                expected="a stored job",
                seen="it was refused",
            )
            trial.check.equal(await storage.get_job(job.tracking_id), None, f"a job for {at} that was refused")
            continue
        (seen,) = await trial.read(storage, job)
        expected = trial.as_stored(job)
        trial.check.equal(
            (seen.execute_after, seen.dequeue_after, seen.expire_on),
            (expected.execute_after, expected.execute_after, expected.expire_on),
            f"a job for {at} comes back exact",
        )
        trial.check.true(
            abs(seen.created_at - at) < trial.tick, f"created_at {at}", expected=str(at), seen=str(seen.created_at)
        )


async def _clearly(trial: Trial, call: Awaitable[T], which: str) -> T | None:
    """Await *call*, which may refuse what is out of range by an error that says so; return None where it does."""

    async def answer() -> T | None:
        try:
            return await call
        except (ValueError, UnstorableError):
            return None

    return await trial.check.answers(answer(), f"{which}: an answer, or a ValueError or UnstorableError")


@rule("R81")
async def the_end_of_the_calendar_is_no_trap(trial: Trial) -> None:
    """Expiries, retries, leases and looks ahead up to the last instant and past it are exact, or refused clearly."""
    storage = await trial.open()
    last = LAST - (LAST - EPOCH) % trial.tick
    job = await trial.started(storage, trial.job(trial.queue(), expire_on=last))
    trial.check.equal(job.expire_on, last, "an expiry at the last instant")
    await acts.must_settle(trial.check, storage, job, retry(last - trial.tick))
    (waiting,) = await trial.read(storage, job)
    trial.check.equal(waiting.dequeue_after, last - trial.tick, "a retry just before the last instant")

    held = await trial.started(storage)
    for lease_for in (timedelta.max, LAST - T0 + SECOND):
        lost = await _clearly(
            trial, storage.renew_leases([held.lease], now=T0, lease_for=lease_for), f"a renewal for {lease_for}"
        )
        trial.check.equal(lost, None, "a lease that would end after the year 9999 is refused by an error")
        trial.check.equal(await trial.read(storage, held), [held], "a lease whose renewal was refused stands as it was")
    far = trial.job(trial.queue())
    await storage.store_jobs([far])
    beyond = claim_of(far.queue_id, now=LAST - SECOND, lease_for=DAY)
    claimed = await _clearly(trial, storage.claim_jobs(beyond), "a claim whose leases would end after the year 9999")
    trial.check.equal(claimed, None, "a claim whose leases would end after the year 9999 is refused by an error")
    trial.check.equal(await trial.read(storage, far), [far], "a job whose claim was refused")
    for look_ahead in (LAST - T0 - SECOND, timedelta.max):
        looking = claim_of(far.queue_id, "another", limit=0, now=T0 + SECOND, look_ahead=look_ahead)
        seen = await trial.check.answers(storage.claim_jobs(looking), f"a claim that looks {look_ahead} ahead")
        trial.check.true(
            seen.next_due is not None and seen.next_due <= T0 + SECOND,
            f"next_due of a claim that looks {look_ahead} ahead",
            expected="at once: a job is due and was not taken",
            seen=seen.next_due,
        )


@rule("R82")
async def the_time_zone_of_the_process_has_no_effect(trial: Trial) -> None:
    """One history, told in a process of another time zone, also across the gap and the fold of its summer time."""
    gap, fold = datetime(2030, 3, 30, 20, 15, tzinfo=UTC), datetime(2030, 10, 26, 20, 15, tzinfo=UTC)
    starts = [start.isoformat() for start in (T0, gap - SECOND, gap - 60 * MINUTE, fold - SECOND, fold - 60 * MINUTE)]
    storage = await trial.open()
    expected = await history.tell(storage, start=starts[0], number=0)
    async with trial.another_place() as url:
        child = await trial.open_child(url, environment={"TZ": KATHMANDU_SUMMER, "PGTZ": "Asia/Kathmandu"})
        for number, start in enumerate(starts):
            story = await trial.check.answers(
                child.run(history.tell, start=start, number=number), f"a history from {start} is told without an error"
            )
            history.check_same(trial.check, story, expected, f"a history from {start}, told with TZ={KATHMANDU_SUMMER}")
        await child.stop()


@rule("R83")
async def nobody_s_clock_counts_for_others(trial: Trial) -> None:
    """A caller whose clock is an hour ahead does all there is to do; the others are answered by their own clocks."""
    storage, ahead = await trial.open(), T0 + 60 * MINUTE
    held, failing, waiting = [await trial.started(storage) for _ in range(3)]
    later = trial.job(trial.queue(), execute_after=T0 + 10 * MINUTE)
    expiring = trial.job(trial.queue(), expire_on=T0 + 10 * MINUTE)
    await storage.store_jobs([later, expiring])
    theirs = await trial.started(storage, now=ahead)
    await acts.renew(storage, theirs, now=ahead)
    await acts.must_settle(trial.check, storage, theirs, failed(ahead), now=ahead)
    await acts.cancelled(storage, await trial.brought_to(storage, JobStatus.PENDING), now=ahead)
    await acts.purge(storage, now=ahead, queue_ids=frozenset({theirs.queue_id}))

    now = T0 + SECOND
    for job, about in ((later, "is not due"), (held, "is leased")):
        taken = await acts.claim(storage, job.queue_id, now=now)
        trial.check.equal(taken, [], f"a job that {about} by its claimer's clock is not claimed")
    await acts.renew(storage, held, now=now)
    await acts.must_settle(trial.check, storage, failing, failed(now), now=now)
    await acts.cancelled(storage, waiting, now=now)
    ends = [(job.dequeue_after, job.finished_at) for job in await trial.read(storage, held, failing, waiting)]
    trial.check.equal(
        ends,
        [(now + LEASE, None), (T0 + LEASE, now), (T0 + LEASE, now)],
        "the end of a renewed lease, and when a job has failed and one was cancelled, by the clock of who said so",
    )
    purged = await acts.purge(storage, JobStatus.FAILED, now=now, keep=MINUTE)
    trial.check.equal((purged.expired, purged.deleted), (0, 0), "what is not over by the clock of who purges stays")
    taken = await acts.claim(storage, expiring.queue_id, now=now)
    seen = [(job.tracking_id, job.dequeue_after) for job in taken]
    trial.check.equal(seen, [(expiring.tracking_id, now + LEASE)], "what has not expired by its claimer's clock")


@rule("R83")
async def only_the_caller_s_clock_counts(trial: Trial) -> None:
    """One history gives the same answers wherever it begins: now, 30 s ago, in an hour, in 2001, in 2099."""
    real = datetime.now(UTC).replace(microsecond=0)
    starts = {
        "virtual time": T0,
        "now": real,
        "30 s ago": real - 30 * SECOND,
        "in an hour": real + 60 * MINUTE,
        "in 2001": datetime(2001, 5, 6, 7, 8, 9, tzinfo=UTC),
        "in 2099": datetime(2099, 5, 6, 7, 8, 9, tzinfo=UTC),
    }
    expected: object = None
    for name, start in starts.items():
        async with trial.another_place() as url:
            storage = await trial.open(url)
            story = await history.tell(storage, start=start.isoformat(), number=0)
            await storage.close()
        expected = expected or story
        history.check_same(trial.check, story, expected, f"a history that begins {name}")
