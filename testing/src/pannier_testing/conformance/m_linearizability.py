"""Section M, of simultaneous calls: whatever was answered could have been answered one after another."""

from collections.abc import Sequence
from datetime import datetime
from itertools import count
from random import Random
from typing import Final
from uuid import UUID

from pannier.claims import Claim, Claimed
from pannier.records import JobRecord, Lease
from pannier.settlements import Outcome, Release, Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, SECOND, T0, claim_of, retry
from pannier_testing.linearizability import Call, explain
from pannier_testing.rules import rule
from pannier_testing.scenes import Act
from pannier_testing.trial import Trial

CLIENTS, CALLS = 3, 4

VERBS: Final = ("claim", "claim", "claim", "settle", "settle", "renew", "cancel", "store", "get", "get", "get")
"""What a client does next; those that tell most come most often."""


class Clients:
    """Several clients of one instance that know each other's jobs and leases, and note every call."""

    def __init__(self, trial: Trial, storage: JobStorageProvider, jobs: Sequence[JobRecord], rng: Random) -> None:
        self._trial = trial
        self._storage = storage
        self._rng = rng
        self._clock = count()
        self._queue = jobs[0].queue_id
        self._known = [job.tracking_id for job in jobs]
        self._leases: list[Lease] = []
        self.calls: list[Call] = []

    async def work(self) -> None:
        """Make some calls, one after the other."""
        for _ in range(CALLS):
            act = self._some_act()
            began = next(self._clock)
            answer = await act.on(self._storage)
            self.calls.append(Call(act, answer, began, next(self._clock)))
            if act.verb == "claim_jobs":
                self._leases += [job.lease for job in answer.jobs]  # type: ignore[attr-defined]  # a Claimed

    def _some_act(self) -> Act:
        now = self._rng.choice((T0, T0, T0, T0 + LEASE, T0 + 2 * LEASE + SECOND))
        match self._rng.choice(
            ("claim", "claim", "claim", "settle", "settle", "renew", "cancel", "store", "get", "get", "get")
        ):
            case "store":
                job = self._trial.job(self._queue, key=self._rng.choice(("a", "b", None)))
                self._known.append(job.tracking_id)
                return Act("store_jobs", {"jobs": [job]})
            case "settle" if self._leases:
                outcomes: list[Outcome] = [Succeeded(), retry(now, at=now), Release()]
                settlement = Settlement(self._rng.choice(self._leases), self._rng.choice(outcomes))
                return Act("settle_jobs", {"settlements": [settlement], "now": now})
            case "renew" if self._leases:
                leases = list({self._rng.choice(self._leases), self._rng.choice(self._leases)})
                return Act("renew_leases", {"leases": leases, "now": now, "lease_for": LEASE})
            case "cancel":
                return Act("cancel_job", {"tracking_id": self._rng.choice(self._known), "now": now})
            case "get":
                return Act("get_job", {"tracking_id": self._rng.choice(self._known)})
            case _:
                worker = self._rng.choice(("ann", "bob"))
                claim = claim_of(self._queue, limit=self._rng.choice((1, 2)), now=now, worker=worker)
                return Act("claim_jobs", {"claim": claim})


@rule("R91")
async def simultaneous_calls_have_an_order_that_explains_them(trial: Trial) -> None:
    """Three clients make four calls each, in many interleavings: some order of the calls gives all the answers."""
    storage = await trial.open()
    for schedule in trial.schedules(60):
        jobs = trial.jobs(3, trial.queue())
        await storage.store_jobs(jobs)
        clients = Clients(trial, storage, jobs, schedule.rng)

        await schedule.jittered(*(clients.work() for _ in range(CLIENTS)))

        calls = sorted(clients.calls, key=lambda call: call.began)
        trial.check.true(
            explain([trial.as_stored(job) for job in jobs], calls, trial.tick),
            "what simultaneous calls were answered, they could have been answered one after another",
            expected="an order of these calls that gives these answers",
            seen="\n      ".join(["none", *map(in_words, calls)]),
        )


def in_words(call: Call) -> str:
    """Return a line about *call*: when, what, and what came back."""
    answer = call.answer
    if isinstance(answer, Claimed):
        answer = f"{'; '.join(map(_job_in_words, answer.jobs)) or 'nothing'}, next_due {_at(answer.next_due)}"
    about = ", ".join(f"{name} {_value_in_words(value)}" for name, value in call.act.arguments.items())
    return f"{call.began:>2}-{call.ended:<2} {call.act.verb}: {about} -> {_value_in_words(answer)}"


def _value_in_words(value: object) -> str:
    match value:
        case JobRecord():
            return _job_in_words(value)
        case Lease():
            return f"{str(value.tracking_id)[:4]} fence {value.fence}"
        case Settlement():
            return f"{_value_in_words(value.lease)} {type(value.outcome).__name__}"
        case Claim():
            return f"{value.demands[0].limit} for {value.worker_id} at {_at(value.now)}"
        case datetime():
            return _at(value)
        case UUID():
            return str(value)[:4]
        case list() | frozenset():
            return f"[{', '.join(map(_value_in_words, value))}]"
        case _:
            return str(value)


def _job_in_words(job: JobRecord) -> str:
    return f"{str(job.tracking_id)[:4]} {job.status} fence {job.fence} until {_at(job.dequeue_after)}"


def _at(at: datetime | None) -> str:
    return "none" if at is None else f"{(at - T0).total_seconds():g} s"
