"""What the journal of a run says, by job."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from attrs import define, field, frozen

from pannier_testing.torture.ground import parse

_MOST_PIDS: Final = 2**32

Held = tuple[UUID, int]
"""A job and a fence."""


@frozen
class Intent:
    """A job that somebody wanted to be stored."""

    key: str | None
    due: float
    kind: str
    number: int


@frozen
class Taking:
    """
    A claim of one job that was answered.

    Attributes:
        place: Where in the journal the answer stands.
        pid: Who was answered.
        asked_at: When he asked, by the machine's clock.
        now: The instant that he asked with, by the engine's clock.
        until: Where the lease ends.
    """

    place: int
    pid: int
    fence: int
    lapses: int
    asked_at: float
    now: float
    until: float


@frozen
class Settling:
    """An outcome that was accepted, and where in the journal it was tried."""

    tried: int
    place: int
    outcome: str


@define
class Run:
    """One execution by a handler; *ended_at* is None where nobody saw its end."""

    pid: int
    fence: int
    started_at: float
    ended_at: float | None = None
    place: int = 0
    is_complete: bool = False


@define
class Affliction:
    """A fault, whom it touched, who stood still, and when it was over."""

    kind: str
    pids: frozenset[int]
    frozen: frozenset[int]
    began_at: float
    place: int
    healed_at: float = float("inf")
    healed_place: int = 2**62


@define
class Call:
    """A call that was made."""

    what: str
    at: float
    place: int
    about: dict[str, Any]


@define(eq=False)
class Testimony:
    """
    What the processes wrote down.

    Attributes:
        intents: Every job that somebody wanted to be stored.
        acknowledged: Those that stand, as `store_jobs` answered.
        answers: The ids that were answered for each key.
        takings: The claims of each job that were answered, by fence.
        ends: Where each lease ends at last, as far as its holder was told.
        tried: The outcomes that were tried under each lease.
        settlings: The outcomes that were accepted under each lease.
        released_at: Where in the journal a lease was settled first, by its holder's wish.
        runs: The executions of each job.
        cancelled: Jobs that somebody wanted to cancel, and the answers.
        requeued: How often each job was requeued.
        unanswered: Claims without an answer: how many, and what they asked for in all.
        errors: How many seconds each call took that raised, by verb and by what it raised.
        afflictions: The faults.
        dead_at: When each process was seen dead.
        died: Of what processes died by themselves.
        stalls: What was waited for in vain.
        overruns: How many workers ended before the lease of a handler did that couldn't be stopped (E6).
        answered_at: For each process, when each of its calls was made and answered, of those that were.
        down_seconds: How long processes did without the storage, added up, as far as that was timed.
        down_busy: For how much of that they kept a processor busy.
        longest_lease: By how many seconds the longest lease was longer than was asked for.
        clock_offset: By how many seconds the storage's clock is ahead of the machine's.
    """

    intents: dict[UUID, Intent] = field(factory=dict[UUID, Intent])
    acknowledged: set[UUID] = field(factory=set[UUID])
    answers: dict[str, set[UUID]] = field(factory=lambda: defaultdict[str, set[UUID]](set))
    takings: dict[UUID, list[Taking]] = field(factory=lambda: defaultdict[UUID, list[Taking]](list))
    ends: dict[Held, float] = field(factory=dict[Held, float])
    tried: dict[Held, set[str]] = field(factory=lambda: defaultdict[Held, set[str]](set))
    settlings: dict[Held, list[Settling]] = field(factory=lambda: defaultdict[Held, list[Settling]](list))
    runs: dict[UUID, list[Run]] = field(factory=lambda: defaultdict[UUID, list[Run]](list))
    cancelled: dict[UUID, set[str]] = field(factory=lambda: defaultdict[UUID, set[str]](set))
    requeued: Counter[UUID] = field(factory=Counter[UUID])
    unanswered: int = 0
    unanswered_limit: int = 0
    errors: dict[tuple[str, str], list[float]] = field(factory=lambda: defaultdict[tuple[str, str], list[float]](list))
    afflictions: list[Affliction] = field(factory=list[Affliction])
    dead_at: dict[int, float] = field(factory=dict[int, float])
    died: list[tuple[str, str]] = field(factory=list[tuple[str, str]])
    stalls: list[str] = field(factory=list[str])
    overruns: int = 0
    answered_at: dict[int, list[tuple[float, float]]] = field(
        factory=lambda: defaultdict[int, list[tuple[float, float]]](list)
    )
    down_seconds: float = 0.0
    down_busy: float = 0.0
    longest_lease: float = 0.0
    clock_offset: float = 0.0


class Processes:
    """
    Tells processes apart that had the same id one after the other: in a long run a system gives ids again.

    Whoever writes under the id of one that was seen dead is another; he was started after that was written.
    """

    def __init__(self) -> None:
        self._lives: Counter[int] = Counter()

    def rename(self, entry: dict[str, Any]) -> None:
        """Give each process that *entry* speaks of a number that no other process of the run has."""
        for name in ("pid", *(("id",) if entry["what"] in {"dead", "died"} else ())):
            entry[name] = self._number(entry[name])
        for name in ("pids", "frozen"):
            if name in entry:
                entry[name] = [*map(self._number, entry[name])]

    def bury(self, number: int) -> None:
        """Take note that a process was seen dead."""
        self._lives[number % _MOST_PIDS] += 1

    def _number(self, pid: int) -> int:
        return pid + _MOST_PIDS * self._lives[pid]


def hear(lines: Iterable[bytes]) -> Testimony:
    """Read a journal."""
    told, processes = Testimony(), Processes()
    calls: dict[tuple[int, int], Call] = {}
    open_runs: dict[tuple[int, UUID, int], Run] = {}
    for place, line in enumerate(lines):
        entry = parse(line)
        if entry is not None:
            processes.rename(entry)
            if entry["what"] == "dead":
                processes.bury(entry["id"])
            _hear_entry(told, calls, open_runs, place, entry)
    for call in calls.values():
        if call.what == "claim":
            told.unanswered += 1
            told.unanswered_limit += call.about["limit"]
    for takings in told.takings.values():
        takings.sort(key=lambda taking: taking.fence)
    return told


def _hear_entry(
    told: Testimony,
    calls: dict[tuple[int, int], Call],
    open_runs: dict[tuple[int, UUID, int], Run],
    place: int,
    entry: dict[str, Any],
) -> None:
    pid, at = entry["pid"], entry["at"]
    match entry["what"]:
        case "store" | "claim" | "renew" | "settle" | "cancel" as what:
            calls[pid, entry["call"]] = Call(what, at, place, entry)
            _hear_wish(told, what, entry)
        case "stored" | "claimed" | "renewed" | "settled" | "cancelled" as what:
            call = calls.pop((pid, entry["call"]), None)
            if call is not None:
                told.answered_at[pid].append((call.at, at))
                _hear_answer(told, what, entry, call, place)
        case "raised":
            call = calls.get((pid, entry["call"]))
            told.errors[entry["verb"], entry["kind"]].append(0.0 if call is None else at - call.at)
        case "start":
            job, fence = UUID(entry["id"]), entry["fence"]
            run = Run(pid, fence, at, place=place)
            told.runs[job].append(run)
            open_runs[pid, job, fence] = run
        case "end" | "stop" as what:
            ended = open_runs.pop((pid, UUID(entry["id"]), entry["fence"]), None)
            if ended is not None:
                ended.ended_at, ended.is_complete = at, what == "end"
        case _:
            _hear_rig(told, entry, place)


def _hear_wish(told: Testimony, what: str, entry: dict[str, Any]) -> None:
    match what:
        case "store":
            for name, key, due, kind, data in entry["jobs"]:
                told.intents.setdefault(UUID(name), Intent(key, due, kind, data["number"]))
        case "settle":
            for name, fence, outcome in entry["leases"]:
                told.tried[UUID(name), fence].add(outcome)
        case "cancel":
            told.cancelled[UUID(entry["id"])].add("tried")
        case _:
            pass


def _hear_answer(told: Testimony, what: str, entry: dict[str, Any], call: Call, place: int) -> None:
    match what:
        case "stored":
            for name, (_, key, *_) in zip(entry["ids"], call.about["jobs"], strict=False):
                told.acknowledged.add(UUID(name))
                if key:
                    told.answers[key].add(UUID(name))
        case "claimed":
            for name, fence, lapses, until in entry["jobs"]:
                job = UUID(name)
                told.takings[job].append(Taking(place, entry["pid"], fence, lapses, call.at, call.about["now"], until))
                told.ends[job, fence] = max(until, told.ends.get((job, fence), 0.0))
                told.longest_lease = max(told.longest_lease, until - call.at - told.clock_offset - call.about["lease"])
        case "renewed":
            for name, fence in entry["leases"]:
                held = UUID(name), fence
                told.ends[held] = max(entry["until"], told.ends.get(held, 0.0))
        case "settled":
            for name, fence, outcome in entry["leases"]:
                told.settlings[UUID(name), fence].append(Settling(call.place, place, outcome))
        case _:
            told.cancelled[UUID(entry["id"])].add(entry["answer"])


def _hear_rig(told: Testimony, entry: dict[str, Any], place: int) -> None:
    at = entry["at"]
    match entry:
        case {"what": "fault", "kind": kind, "pids": pids}:
            frozen_pids = frozenset(entry.get("frozen", ()))
            told.afflictions.append(Affliction(kind, frozenset(pids), frozen_pids, at, place))
            if kind == "kill":
                told.afflictions[-1].healed_at, told.afflictions[-1].healed_place = at, place
        case {"what": "healed"}:
            told.afflictions[-1].healed_at, told.afflictions[-1].healed_place = at, place
        case {"what": "dead", "id": pid}:
            told.dead_at[pid] = at
        case {"what": "died", "kind": kind, "message": message}:
            told.died.append((kind, message))
        case {"what": "stalled", "waited_for": words}:
            told.stalls.append(words)
        case {"what": "requeue", "id": name}:
            told.requeued[UUID(name)] += 1
        case {"what": "overrun"}:
            told.overruns += 1
        case {"what": "down", "seconds": seconds, "busy": busy}:
            told.down_seconds += seconds
            told.down_busy += busy
        case {"what": "clocks", "offset": offset}:
            told.clock_offset = offset
        case _:
            pass
