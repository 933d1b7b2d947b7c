"""Section O: what is listed and counted is what there is, and looking changes nothing."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from random import Random
from typing import Final
from uuid import UUID

from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import COMPLETE, JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobInspector, JobResultProvider, JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, claim_of, failed, ids_of, new_id, new_job, retry
from pannier_testing.checks import show
from pannier_testing.jitter import Schedule
from pannier_testing.reference.model import Model
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of, results_of

QUEUES: Final = ("mail", "Mail", "mail.old")
METADATA: Final[tuple[dict[str, str], ...]] = (
    {},
    {"tenant": "acme"},
    {"tenant": "ACME"},
    {"tenant": "acme", "shop": "1"},
    {"tenant": "a", "": "acme", "a.b": "$c"},
    {"tenant": "a", "": "acme", "a.b": "another"},
    {"shop": ""},
)
WANTED: Final = (
    JobFilter(),
    JobFilter(queue_ids=frozenset()),
    JobFilter(statuses=frozenset()),
    JobFilter(queue_ids=frozenset({"no such queue"})),
    *(JobFilter(queue_ids=frozenset({queue})) for queue in QUEUES),
    JobFilter(queue_ids=frozenset(QUEUES[:2])),
    *(JobFilter(statuses=frozenset({status})) for status in JobStatus),
    JobFilter(statuses=COMPLETE),
    *(JobFilter(metadata=metadata) for metadata in METADATA[1:]),
    JobFilter(metadata={"tenant": "none"}),
    JobFilter(metadata={"none": "acme"}),
    JobFilter(queue_ids=frozenset({"mail"}), statuses=frozenset({JobStatus.PENDING}), metadata={"tenant": "acme"}),
)

OUTCOMES: Final[tuple[Outcome, ...]] = (retry(T0 + MINUTE), failed())


class History:
    """
    A seeded history that a storage and the reference model go through together.

    Every claim takes all that is due, after a purge that has marked all that has expired, so that the storage has no
    choice of its own.
    """

    def __init__(
        self,
        storage: JobStorageProvider,
        inspector: JobInspector,
        results: JobResultProvider | None,
        tick: timedelta,
        seed: object,
    ) -> None:
        self.storage = storage
        self.results = results
        self.inspector = inspector
        self.model = Model(tick)
        self.rng = Random(f"{seed}")
        self.now = T0
        self.leases: list[Lease] = []

    async def step(self) -> None:
        """Let some time pass, and do something."""
        self.now += self.rng.choice([0, 1, 7, 31]) * SECOND
        steps: list[Callable[[], Coroutine[object, object, None]]] = [
            self.store, self.store, self.claim, self.settle, self.settle, self.cancel, self.requeue, self.purge,
        ]  # fmt: skip
        if self.results is not None:
            steps.append(self.report)
        await self.rng.choice(steps)()

    def any_id(self) -> UUID:
        """Choose a job."""
        return self.rng.choice(sorted(self.model.jobs) or [new_id(self.rng)])

    async def store(self) -> None:
        """Store a few jobs."""
        jobs = [self.new_job() for _ in range(4)]
        self.model.store(jobs)
        await self.storage.store_jobs(jobs)

    def new_job(self) -> JobRecord:
        """Make up a job."""
        starts = self.now + self.rng.choice([0, 0, 5, 60]) * SECOND
        return new_job(
            new_id(self.rng),
            self.rng.choice(QUEUES),
            execute_after=starts,
            expire_on=self.rng.choice([None, None, starts + 20 * SECOND]),
            created_at=self.now,
            priority=self.rng.choice([-1, 0, 100]),
            key=self.rng.choice([None, "k1", "k2"]),
            metadata=self.rng.choice(METADATA),
        )

    async def claim(self) -> None:
        """Claim all that is due in one queue."""
        await self.purge()
        claim = claim_of(self.rng.choice(QUEUES), limit=1000, now=self.now)
        self.leases += [job.lease for job in self.model.claim(claim).jobs]
        await self.storage.claim_jobs(claim)

    async def settle(self) -> None:
        """Settle some leases, old ones too."""
        outcomes: list[Outcome] = [Succeeded(Payload(1)), failed(self.now), retry(self.now + MINUTE), Release()]
        chosen = self.rng.sample(self.leases, min(3, len(self.leases)))
        settlements = [Settlement(lease, self.rng.choice(outcomes)) for lease in chosen]
        self.model.settle(settlements, self.now)
        await self.storage.settle_jobs(settlements, now=self.now)

    async def report(self) -> None:
        """Store progress under some leases, old ones too."""
        assert self.results is not None
        for lease in self.rng.sample(self.leases, min(3, len(self.leases))):
            progress = Payload({"done": self.rng.randrange(100)})
            self.model.report(lease, progress)
            await self.results.store_progress(lease, progress)

    async def cancel(self) -> None:
        """Cancel a job."""
        chosen = self.any_id()
        self.model.cancel(chosen, self.now)
        await self.storage.cancel_job(chosen, now=self.now)

    async def requeue(self) -> None:
        """Requeue a job."""
        chosen = self.any_id()
        self.model.requeue(chosen, self.now, None)
        await self.inspector.requeue_job(chosen, now=self.now, expire_on=None)

    async def purge(self) -> None:
        """Mark and delete all that is over."""
        keep = {JobStatus.SUCCEEDED: MINUTE, JobStatus.CANCELLED: 2 * MINUTE}
        stale = StaleJobs(now=self.now, keep=keep, limit=1000)
        self.model.purge(stale)
        await self.storage.purge_stale_jobs(stale)


@rule("R97")
async def lists_and_counts_agree_with_any_history(trial: Trial) -> None:
    """After any history each filter lists exactly the model's jobs, complete, and the counts add up to the list."""
    for _ in trial.schedules(2):
        async with trial.another_place() as url:
            storage = await trial.open(url)
            inspector = inspector_of(storage)
            results = results_of(storage) if trial.offers(Need.RESULTS) else None
            history = History(storage, inspector, results, trial.tick, trial.rng.random())
            for _ in range(6):
                for _ in range(15):
                    await history.step()
                await _compare(trial, inspector, history)
            await storage.close()


@rule("R97")
async def many_jobs_of_many_queues_are_counted_whole(trial: Trial) -> None:
    """More jobs than one answer of an engine holds, in more queues than a statement holds values, are all counted."""
    storage = await trial.open()
    inspector = inspector_of(storage)
    size = trial.sized("jobs that are counted", 1_200, least=1_001, seconds=1)
    large = trial.queue()
    count = trial.sized("queues that are counted", 1_100, least=120, seconds=0.5)
    names = [f"one of many {number:04}" for number in range(count)]
    few = [trial.job(names[0]), trial.job(names[count // 2]), trial.job(names[-1])]
    await storage.store_jobs([*trial.jobs(size, large), *few])

    pending = JobStatus.PENDING
    for wanted, expected in (
        (JobFilter(queue_ids=frozenset({large})), {(large, pending): size}),
        (JobFilter(queue_ids=frozenset(names)), {(job.queue_id, pending): 1 for job in few}),
        (JobFilter(), {(large, pending): size, **{(job.queue_id, pending): 1 for job in few}}),
    ):
        counted = {which: count for which, count in (await inspector.count_jobs(wanted)).items() if count}
        asked = "any queue" if wanted.queue_ids is None else f"{len(wanted.queue_ids)} queues"
        trial.check.equal(counted, expected, f"the counts of {size + len(few)} jobs, in {asked}")
    pages = _pages(trial, inspector, JobFilter(queue_ids=frozenset(names)), 2)
    listed = [job.tracking_id async for page in pages for job in page]
    trial.check.counts(listed, ids_of(few), f"the jobs listed of {count} queues")


async def _compare(trial: Trial, inspector: JobInspector, history: History) -> None:
    for wanted in WANTED:
        expected = history.model.find(wanted)
        limit = history.rng.choice([1, 3, 100]) if len(expected) < 20 else 7
        seen = [job async for page in _pages(trial, inspector, wanted, limit) for job in page]
        trial.check.counts(ids_of(seen), ids_of(expected), f"the jobs listed for {wanted}, {limit} a page")
        by_id = {job.tracking_id: job for job in seen}
        for job in expected:
            trial.check.equal(by_id[job.tracking_id], job, f"a job as it is listed for {wanted}")
        counted = {which: count for which, count in (await inspector.count_jobs(wanted)).items() if count}
        trial.check.equal(counted, history.model.count(wanted), f"the counts for {wanted}")
        trial.check.equal(sum(counted.values()), len(seen), f"the sum of the counts for {wanted} is the list's length")


async def _pages(
    trial: Trial, inspector: JobInspector, wanted: JobFilter, limit: int
) -> AsyncIterator[tuple[JobRecord, ...]]:
    cursor: str | None = None
    for _ in range(1000):
        page = await inspector.find_jobs(wanted, cursor=cursor, limit=limit)
        trial.check.true(
            len(page.jobs) <= limit, f"a page of at most {limit} jobs", expected=f"<= {limit}", seen=len(page.jobs)
        )
        yield page.jobs
        cursor = page.cursor
        if cursor is None:
            return
    trial.check.fails("paging comes to an end", expected="a cursor of None within 1000 pages", seen=show(cursor))


@rule("R98")
async def paging_skips_and_repeats_nothing(trial: Trial) -> None:
    """While jobs are stored, purged, claimed and settled between the pages, each job that stays is on one page."""
    storage = await trial.open()
    for schedule in trial.schedules(10):
        queue = trial.queue()
        staying, leaving = trial.jobs(12, queue, metadata={"stays": "yes"}), trial.jobs(8, queue)
        jobs = [*staying, *leaving]
        schedule.rng.shuffle(jobs)
        await storage.store_jobs(jobs)
        for job in leaving:
            await acts.cancelled(storage, job)
        wanted = JobFilter(queue_ids=frozenset({queue}), metadata=schedule.rng.choice([{}, {"stays": "yes"}]))
        seen: list[JobRecord] = []
        async for page in _pages(trial, inspector_of(storage), wanted, 3):
            seen += page
            await _change(trial, storage, schedule, queue)
        _check_listed(trial, seen, staying)


async def _change(trial: Trial, storage: JobStorageProvider, schedule: Schedule, queue: str) -> None:
    """Change what is listed: rows come and go, and those that stay change places in every order but their ids'."""
    await storage.store_jobs(trial.jobs(schedule.rng.randrange(3), queue, priority=schedule.rng.randrange(3)))
    await acts.purge(
        storage, JobStatus.CANCELLED, now=T0, queue_ids=frozenset({queue}), limit=schedule.rng.randrange(1, 3)
    )
    for job in await acts.claim(storage, queue, limit=schedule.rng.randrange(3)):
        await acts.settle(storage, job, schedule.rng.choice(OUTCOMES))


def _check_listed(trial: Trial, seen: list[JobRecord], staying: list[JobRecord]) -> None:
    counted = Counter(ids_of(seen))
    twice = [str(job_id) for job_id, count in counted.items() if count > 1]
    trial.check.equal(twice, [], "no job is on two pages, whatever happens between them")
    skipped = [str(job.tracking_id) for job in staying if job.tracking_id not in counted]
    trial.check.equal(skipped, [], "no job that stays is skipped, whatever happens between the pages")


@rule("R98")
async def a_page_goes_on_where_its_last_job_is_gone(trial: Trial) -> None:
    """The job on which a page ended is purged, or matches no longer: the next page goes on behind its place."""
    storage = await trial.open()
    inspector = inspector_of(storage)
    pending = frozenset({JobStatus.PENDING})
    for is_purged in (True, False):
        for limit in (1, 3, 4):
            queue = trial.queue()
            jobs = trial.jobs(8, queue)
            await storage.store_jobs(jobs)
            wanted = JobFilter(queue_ids=frozenset({queue}), statuses=None if is_purged else pending)
            seen: list[JobRecord] = []
            async for page in _pages(trial, inspector, wanted, limit):
                seen += page
                for job in page[-1:]:
                    await acts.cancelled(storage, job)
                if is_purged:
                    await acts.purge(storage, JobStatus.CANCELLED, now=T0, queue_ids=frozenset({queue}))
            what = "purged" if is_purged else "cancelled"
            trial.check.counts(ids_of(seen), ids_of(jobs), f"pages of {limit} jobs whose last one is {what} at once")


@rule("R98")
async def a_page_of_any_size_is_whole_or_goes_on(trial: Trial) -> None:
    """A page may hold fewer jobs than were asked for, but then its cursor leads to the others."""
    storage, queue = await trial.open(), trial.queue()
    size = trial.sized("jobs that are listed", 1_200, least=1_001, seconds=1)
    jobs = trial.jobs(size, queue)
    await storage.store_jobs(jobs)
    for limit in (999, size, 10 * size):
        pages = _pages(trial, inspector_of(storage), JobFilter(queue_ids=frozenset({queue})), limit)
        listed = [job.tracking_id async for page in pages for job in page]
        trial.check.counts(listed, ids_of(jobs), f"{size} jobs that are listed in pages of at most {limit}")


@rule("R98")
async def paging_beside_other_instances_is_complete(trial: Trial) -> None:
    """The same while another instance stores and purges at the same time as pages are read."""
    storage, second = await trial.open(), await trial.open()
    for schedule in trial.schedules(10):
        queue = trial.queue()
        staying, leaving = trial.jobs(12, queue), trial.jobs(8, queue)
        await storage.store_jobs([*staying, *leaving])
        for job in leaving:
            await acts.cancelled(storage, job)
        wanted = JobFilter(queue_ids=frozenset({queue}))

        async def read(wanted: JobFilter = wanted) -> list[JobRecord]:
            return [job async for page in _pages(trial, inspector_of(storage), wanted, 3) for job in page]

        async def change(schedule: Schedule = schedule, queue: str = queue) -> None:
            for _ in range(5):
                await _change(trial, second, schedule, queue)

        seen, _ = await trial.check.answers(
            schedule.raced(read(), change()), "reading pages while jobs are stored and purged is no error"
        )
        _check_listed(trial, seen, staying)


@rule("R99")
async def looking_changes_nothing(trial: Trial) -> None:
    """find_jobs, count_jobs and get_job change no record, no order, no lease, and keep nobody from claiming."""
    storage, second = await trial.open(), await trial.open()
    queue = trial.queue()
    jobs = [trial.job(queue, priority=n % 3, execute_after=T0 + n * SECOND) for n in range(9)]
    await storage.store_jobs(jobs)
    running = await trial.started(storage)
    before = await trial.read(storage, *jobs, running)
    inspector = inspector_of(storage)

    async def look() -> None:
        async for _ in _pages(trial, inspector, JobFilter(), 2):
            await inspector.count_jobs(JobFilter(queue_ids=frozenset({queue})))
            await storage.get_job(jobs[0].tracking_id)

    await look()
    trial.check.equal(await trial.read(storage, *jobs, running), before, "jobs that were only looked at")
    page = await inspector.find_jobs(JobFilter(queue_ids=frozenset({queue})), limit=1)
    turn = sorted(jobs, key=lambda job: (-job.priority, job.dequeue_after, job.tracking_id))
    for expected in turn:  # another instance claims in the middle of a listing
        await inspector.find_jobs(JobFilter(queue_ids=frozenset({queue})), cursor=page.cursor, limit=1)
        taken = await acts.claimed_ids(second, queue, now=T0 + MINUTE, limit=1)
        trial.check.equal(taken, [expected.tracking_id], "the next job of a claim while jobs are listed")
        await look()
    hidden = await acts.claimed_ids(storage, running.queue_id, now=T0 + LEASE - trial.tick)
    trial.check.equal(hidden, [], "a lease that was looked at hides its job as before")
    lapsed = await acts.claimed_ids(storage, running.queue_id, now=T0 + LEASE)
    trial.check.equal(lapsed, [running.tracking_id], "a lease that was looked at ends as before")


@rule("R99")
async def a_bad_cursor_is_a_clear_error(trial: Trial) -> None:
    """What no page gave out, and a limit below 1, is a ValueError; the next good call works."""
    storage = await trial.open()
    inspector = inspector_of(storage)
    await storage.store_jobs(trial.jobs(3, trial.queue()))
    bad: tuple[str, ...] = ("", " ", "x", "-1", "\0", "\ud800", "'; --", "{}", "x" * 10_000, "\u00b2", "None")
    for cursor in bad:
        await trial.check.raises(
            ValueError, inspector.find_jobs(JobFilter(), cursor=cursor), f"the cursor {show(cursor)} is refused"
        )
    for limit in (0, -1, -(2**63)):
        await trial.check.raises(ValueError, inspector.find_jobs(JobFilter(), limit=limit), f"a limit of {limit}")
    page = await inspector.find_jobs(JobFilter(), limit=2)
    rest = await inspector.find_jobs(JobFilter(), cursor=page.cursor, limit=2)
    trial.check.equal((len(page.jobs), len(rest.jobs), rest.cursor), (2, 1, None), "pages after refused calls")
