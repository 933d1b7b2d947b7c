"""
A guided state machine: a storage and the reference model go through one seeded history and must agree.

Chance alone hardly ever looks at a lapsed lease or tries a stale fence. The guide jumps to the instants at which
something changes, one tick before and after them too, and keeps old leases to try them again. Every difference is
told to the rules that it breaks; a run is made for one rule, and takes what breaks another one as it is.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import evolve

from pannier.claims import Claim, Claimed, Demand
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Outcome, Release, Retry, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, LOOK_AHEAD, SECOND, T0, failed, ids_of, retry
from pannier_testing.checks import InconclusiveError, same
from pannier_testing.reference.model import Model
from pannier_testing.rules import Need
from pannier_testing.trial import Trial, inspector_of, results_of

if TYPE_CHECKING:
    from uuid import UUID

T = TypeVar("T")

FLOORS: Final = {"re-claims": 20, "stale operations": 20, "expiries": 10}
"""What a run must have tried at least; below it says nothing."""

STEPS: Final = 100
AT_MOST: Final = 1500
KEEP: Final = {JobStatus.SUCCEEDED: 40 * SECOND, JobStatus.FAILED: 60 * SECOND, JobStatus.EXPIRED: 20 * SECOND}


class FollowingModel(Model):
    """
    The model, which gives among leases that lapsed at the same instant what the storage gave: their order is free.

    Attributes:
        given: What the storage gave.
    """

    def __init__(self, grid: timedelta) -> None:
        super().__init__(grid)
        self.given: Collection[UUID] = ()

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Order as the contract says, and then as the storage did."""
        *first, last = super().turn(job)
        is_passed_over = job.status is JobStatus.RUNNING and job.tracking_id not in self.given
        return (*first, is_passed_over, last)


class Machine:
    """One history on one storage, for the rule that the trial is about."""

    def __init__(self, trial: Trial, storage: JobStorageProvider) -> None:
        self.trial = trial
        self.storage = storage
        self.model = FollowingModel(trial.tick)
        self.rng = trial.rng
        self.now = T0
        self.queues = [trial.queue() for _ in range(3)]
        self.leases: list[Lease] = []
        self.tried: Counter[str] = Counter()
        self.told: deque[str] = deque(maxlen=8)

    async def play(self) -> None:
        """Take steps until all floors are reached, and the rule that the trial is about was asked after."""
        steps = 0
        while steps < STEPS or not self._is_enough() or not self.trial.check.count:
            await self._next_step()()
            steps += 1
            if steps == AT_MOST:
                raise InconclusiveError(f"in {steps} steps only {dict(self.tried)}, of {FLOORS}")
        await self._compare_all()

    def _is_enough(self) -> bool:
        return all(self.tried[what] >= floor for what, floor in FLOORS.items())

    def _next_step(self) -> Callable[[], Awaitable[None]]:
        """Choose a step: one that brings the run nearer to its floors, or any."""
        guided: list[Callable[[], Awaitable[None]]] = [self._let_leases_lapse, self._let_jobs_expire]
        free = [
            self._store, self._store, self._claim, self._claim, self._settle, self._settle, self._renew, self._cancel,
            self._purge, self._requeue, self._report, self._count,
        ]  # fmt: skip
        if self.rng.random() < 0.3:
            self._jump()
        return self.rng.choice(guided if self.rng.random() < 0.35 else free)

    # Judging.

    def _differ(self, rules: Collection[str], seen: object, expected: object, promise: str) -> bool:
        """See whether both are equal; where this run's rule is among *rules*, a difference breaks it."""
        if self.trial.rule.number in rules:
            self.trial.check.equal(seen, expected, f"{promise}; before that: {'; '.join(self.told)}")
        return not same(seen, expected)

    async def _look(self, jobs: Collection[JobRecord], rules: Collection[str], promise: str) -> None:
        """Compare the records of *jobs*; what differs is taken over."""
        for job in jobs:
            seen = await self.storage.get_job(job.tracking_id)
            expected = self.model.get(job.tracking_id)
            if self._may_be_marked(seen, expected):
                expected = seen
            self._differ(rules, seen, expected, f"{promise}: the job afterwards")
            self._take_over(job, seen)

    def _may_be_marked(self, seen: JobRecord | None, expected: JobRecord | None) -> bool:
        """Whether a claim has marked EXPIRED what a purge would have marked."""
        if seen is None or expected is None or seen.finished_at is None or seen.status is not JobStatus.EXPIRED:
            return False
        marked = evolve(expected, status=JobStatus.EXPIRED, finished_at=seen.finished_at)
        return self.model.is_expirable(expected, seen.finished_at) and same(seen, marked)

    def _take_over(self, job: JobRecord, seen: JobRecord | None) -> None:
        if seen is not None:
            self.model.put(seen)
        elif job.tracking_id in self.model.jobs:
            self.model.delete(self.model.jobs[job.tracking_id])

    async def _compare_all(self) -> None:
        await self._look(list(self.model.jobs.values()), (), "in the end")
        await self._count()

    def _tell(self, what: str) -> None:
        self.told.append(f"{(self.now - T0).total_seconds():g} s: {what}")

    # Time.

    def _jump(self) -> None:
        """Go on to the neighbourhood of an instant at which something changes."""
        instants = [
            at
            for job in self.model.jobs.values()
            for at in (job.dequeue_after, job.expire_on, job.finished_at and job.finished_at + 40 * SECOND)
            if at is not None and self.now < at < self.now + timedelta(hours=1)
        ]
        if instants:
            self._go_to(self.rng.choice(instants) + self.rng.choice((-1, 0, 1)) * self.trial.tick)

    def _go_to(self, at: datetime) -> None:
        self.now = max(self.now, at)

    # Steps.

    async def _store(self) -> None:
        jobs = [self._new_job() for _ in range(self.rng.randrange(1, 4))]
        rules = [self._rules_of_storing(job) for job in jobs]
        self._tell(f"store {len(jobs)} jobs")
        seen = await self.storage.store_jobs(jobs)
        expected = self.model.store(jobs)
        for job, one, other, broken in zip(jobs, seen, expected, rules, strict=True):
            self._differ(broken, one, other, f"store_jobs with the key {job.idempotency_key!r} says which job stands")
        await self._look([self.model.jobs[tracking_id] for tracking_id in expected], rules[0], "stored")

    def _new_job(self) -> JobRecord:
        starts = self.now + self.rng.choice((-5, 0, 0, 0, 7)) * SECOND
        lives = self.rng.choice((None, None, 12, 45))
        known = [*self.model.jobs]
        job = self.trial.job(
            self.rng.choice(self.queues),
            execute_after=starts,
            expire_on=None if lives is None else starts + lives * SECOND,
            created_at=self.now,
            priority=self.rng.choice((0, 0, -1, 5)),
            key=self.rng.choice((None, "a", "b", "c")),
        )
        is_repeat = known and self.rng.random() < 0.05
        return evolve(job, tracking_id=self.rng.choice(known)) if is_repeat else job

    def _rules_of_storing(self, job: JobRecord) -> tuple[str, ...]:
        standing = self.model.keys.get((job.queue_id, job.idempotency_key or ""))
        if standing is None:
            return ("R10", "R12")
        return ("R10",) if self.model.jobs[standing].status is JobStatus.PENDING else ("R15",)

    async def _claim(self) -> None:
        if self.rng.random() < 0.7:
            demand = Demand((self.rng.choice(self.queues),), self.rng.randrange(4))
        else:
            demand = Demand(tuple(self.queues[:2]), 10_000)  # across names the order of a cut is not promised
        await self._claim_of(demand)

    async def _claim_of(self, demand: Demand) -> list[JobRecord]:
        """Claim in both, and compare what they gave and when they want to be asked again."""
        claim = Claim(
            demands=(demand,),
            worker_id=self.rng.choice(("ann", "bob")),
            now=self.now,
            lease_for=LEASE,
            look_ahead=LOOK_AHEAD,
        )
        before = dict(self.model.jobs)
        expired = [job for job in self.model.unfinished(demand.queue_ids) if self.model.is_expirable(job, self.now)]
        self.tried["expiries"] += len(expired)
        self._tell(f"claim {demand.limit} of {', '.join(demand.queue_ids)}")
        seen = await self._claim_all(claim)
        given = {job.tracking_id: job for job in seen.jobs}
        self.model.given = given.keys()
        expected = self.model.claim(claim)
        wanted = {job.tracking_id: job for job in expected.jobs}
        self.tried["re-claims"] += sum(job.lapses > 0 for job in expected.jobs)
        asked = [job.tracking_id for job in before.values() if job.queue_id in demand.queue_ids]
        for tracking_id in {*asked, *given}:
            job = before.get(tracking_id)
            self._differ(
                self._rules_of_claiming(job, is_given=tracking_id in given),
                given.get(tracking_id),
                wanted.get(tracking_id),
                f"a claim gives what is due: {_in_words(job, self.now)}",
            )
        self._check_next_due(seen, expected, claim)
        touched = [before[tracking_id] for tracking_id in given.keys() | wanted.keys() if tracking_id in before]
        await self._look([*touched, *expired], (), "claimed")
        self.leases += [job.lease for job in seen.jobs]
        return [*seen.jobs]

    async def _claim_all(self, claim: Claim) -> Claimed:
        """Claim, and once more while the storage gives less and says "ask again"."""
        claimed = await self.storage.claim_jobs(claim)
        jobs = list(claimed.jobs)
        limit = claim.demands[0].limit
        while len(jobs) < limit and claimed.next_due is not None and claimed.next_due <= claim.now:
            rest = evolve(claim.demands[0], limit=limit - len(jobs))
            claimed = await self.storage.claim_jobs(evolve(claim, demands=(rest,)))
            if not claimed.jobs:
                break
            jobs += claimed.jobs
        return Claimed(jobs=tuple(jobs), next_due=claimed.next_due)

    def _rules_of_claiming(self, job: JobRecord | None, *, is_given: bool) -> tuple[str, ...]:
        """Return the rules that say whether *job*, as it was before, is given out now."""
        if job is None or job.finished_at is not None:
            return ("R22", "R48", "R60") if job is not None and job.status is JobStatus.CANCELLED else ("R22", "R48")
        if not self.model.is_fresh(job, self.now):
            return ("R21",)
        if job.status is JobStatus.RUNNING:
            return ("R37", "R38") if job.dequeue_after <= self.now else ("R22", "R29", "R37")
        if job.errors:
            return ("R53",)
        return ("R19", "R21") if not is_given or job.dequeue_after > self.now else ()

    def _check_next_due(self, seen: Claimed, expected: Claimed, claim: Claim) -> None:
        """Hold the bound to the model's exact one."""
        if self.trial.rule.number != "R121" or len(seen.jobs) != len(expected.jobs):
            return
        exact = expected.next_due
        is_due = exact is not None and exact <= claim.now
        self.trial.check.true(
            # What is due now is due now, whenever it fell due: a storage need not tell.
            exact is None or (seen.next_due is not None and seen.next_due <= max(exact, claim.now)),
            f"next_due is not later than the next job; before that: {'; '.join(self.told)}",
            expected=f"at or before {exact}",
            seen=f"{seen.next_due}",
        )
        self.trial.check.true(
            is_due or seen.next_due is None or seen.next_due > claim.now,
            f"next_due is after now where nothing is due; before that: {'; '.join(self.told)}",
            expected=f"None or after {claim.now}",
            seen=f"{seen.next_due}",
        )

    async def _settle(self, lease: Lease | None = None) -> None:
        lease = lease or self._some_lease()
        if lease is None:
            return
        outcome = self._some_outcome()
        job = self.model.get(lease.tracking_id)
        rules = self._rules_of_writing(lease, "R42" if isinstance(outcome, Succeeded) else "R43")
        rules += ("R53",) if isinstance(outcome, Retry) else ("R48",)
        settlement = Settlement(lease, outcome)
        what = f"settle with fence {lease.fence} as {type(outcome).__name__}, {_in_words(job, self.now)}"
        self._tell(what)
        seen = await self.storage.settle_jobs([settlement], now=self.now)
        self._differ(rules, seen, self.model.settle([settlement], self.now), f"{what}: which leases are refused")
        await self._look([job] if job is not None else [], rules, what)

    async def _renew(self, lease: Lease | None = None) -> None:
        lease = lease or self._some_lease()
        if lease is None:
            return
        job = self.model.get(lease.tracking_id)
        rules = self._rules_of_writing(lease, "R41")
        lease_for = self.rng.choice((LEASE, SECOND))
        what = f"renew with fence {lease.fence}, {_in_words(job, self.now)}"
        self._tell(what)
        seen = await self.storage.renew_leases([lease], now=self.now, lease_for=lease_for)
        self._differ(rules, seen, self.model.renew([lease], self.now, lease_for), f"{what}: which leases are lost")
        await self._look([job] if job is not None else [], rules, what)

    def _rules_of_writing(self, lease: Lease, of_stale: str) -> tuple[str, ...]:
        """Return the rules for a write under *lease*: stale, lapsed, or live."""
        if not self.model.holds(lease):
            self.tried["stale operations"] += 1
            return (of_stale,)
        is_lapsed = self.model.jobs[lease.tracking_id].dequeue_after <= self.now
        return ("R40",) if is_lapsed else ("R39",)

    def _some_lease(self) -> Lease | None:
        if not self.leases:
            return None
        lease = self.rng.choice(self.leases[-12:])
        chance = self.rng.random()
        if chance < 0.1:
            return Lease(lease.tracking_id, lease.fence + 1)
        return Lease(lease.tracking_id, max(1, lease.fence - 1)) if chance < 0.2 else lease

    def _some_outcome(self) -> Outcome:
        again = self.now + self.rng.choice((0, 3, 50)) * SECOND
        result = Payload({"n": self.rng.randrange(9)}) if self.trial.offers(Need.RESULTS) else None
        outcomes: list[Outcome] = [Succeeded(result), failed(self.now), retry(again, at=self.now), Release()]
        return self.rng.choice(outcomes)

    async def _cancel(self) -> None:
        if not self.model.jobs:
            return
        job = self.rng.choice(list(self.model.jobs.values()))
        what = f"cancel, {_in_words(job, self.now)}"
        self._tell(what)
        seen = await self.storage.cancel_job(job.tracking_id, now=self.now)
        self._differ(("R60",), seen, self.model.cancel(job.tracking_id, self.now), what)
        await self._look([job], ("R60",), what)

    async def _purge(self) -> None:
        stale = StaleJobs(now=self.now, keep=KEEP, queue_ids=frozenset(self.queues))
        before = list(self.model.jobs.values())
        self.tried["expiries"] += sum(self.model.is_expirable(job, self.now) for job in before)
        self._tell("purge")
        seen = await self.storage.purge_stale_jobs(stale)
        self._differ(("R72",), seen, self.model.purge(stale), "a purge says how many it marked and deleted")
        touched = [job for job in before if self.model.get(job.tracking_id) is not job]
        others = self.rng.sample(before, min(5, len(before)))
        await self._look([*touched, *others], ("R72",), "purged")

    async def _requeue(self) -> None:
        done = [job for job in self.model.jobs.values() if job.is_complete]
        if not done or not self.trial.offers(Need.INSPECT):
            return
        job = self.rng.choice(done)
        self._tell(f"requeue, {_in_words(job, self.now)}")
        ends = self.rng.choice((None, self.now + 20 * SECOND))
        await inspector_of(self.storage).requeue_job(job.tracking_id, now=self.now, expire_on=ends)
        self.model.requeue(job.tracking_id, self.now, ends)
        await self._look([job], (), "requeued")

    async def _report(self) -> None:
        lease = self._some_lease()
        if lease is None or not self.trial.offers(Need.RESULTS):
            return
        progress = Payload(self.rng.randrange(100))
        self._tell(f"report progress with fence {lease.fence}")
        await results_of(self.storage).store_progress(lease, progress)
        self.model.report(lease, progress)
        job = self.model.get(lease.tracking_id)
        await self._look([job] if job is not None else [], (), "reported")

    async def _count(self) -> None:
        if not self.trial.offers(Need.INSPECT):
            return
        wanted = JobFilter(queue_ids=frozenset(self.queues))
        counts = await inspector_of(self.storage).count_jobs(wanted)
        seen = {key: count for key, count in counts.items() if count}
        self._differ(("R97",), seen, self.model.count(wanted), "counts agree with the model")
        page = await inspector_of(self.storage).find_jobs(wanted, limit=10_000)
        listed = sorted(ids_of(page.jobs))
        self._differ(("R97",), listed, ids_of(self.model.find(wanted)), "the listing agrees with the model")

    # Guided steps: what chance alone would hardly meet.

    async def _let_leases_lapse(self) -> None:
        """Have a job claimed, go to the end of its lease, one tick before and after too, and try the old lease."""
        queue = self.rng.choice(self.queues)
        if not any(job.queue_id == queue for job in self.model.jobs.values() if not job.is_complete):
            await self._store()
        claimed = await self._claim_of(Demand((queue,), 2))
        if not claimed:
            return
        job = self.rng.choice(claimed)
        for ticks in (-1, 0, 1):
            self._go_to(job.dequeue_after + ticks * self.trial.tick)
            if ticks == 0 and self.rng.random() < 0.3:
                await self.rng.choice((self._renew, self._settle))(job.lease)
            await self._claim_of(Demand((queue,), self.rng.choice((1, 5))))
        await self._renew(job.lease)
        await self._settle(job.lease)

    async def _let_jobs_expire(self) -> None:
        """Go to the end of a job's life, one tick before and after too, and see who can still have it."""
        job = self.trial.job(self.rng.choice(self.queues), execute_after=self.now, expire_on=self.now + 5 * SECOND)
        await self.storage.store_jobs([job])
        self.model.store([job])
        self._tell("store a job that expires in 5 s")
        for ticks in (-1, 0, 1):
            self._go_to(job.execute_after + 5 * SECOND + ticks * self.trial.tick)
            if ticks != -1 or self.rng.random() < 0.3:
                await self._claim_of(Demand((job.queue_id,), 1))
        await self._purge()


def _in_words(job: JobRecord | None, now: datetime) -> str:
    if job is None:
        return "of a job that is not there"
    due = (job.dequeue_after - now).total_seconds()
    ends = "" if job.expire_on is None else f", expires in {(job.expire_on - now).total_seconds():g} s"
    return f"of a {job.status} job with fence {job.fence}, due in {due:g} s{ends}"
