"""Makes the page RELIABILITY.md of the records of real runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from pannier_testing.torture.plan import FaultKind
from pannier_testing.torture.record import Record

WORDS: Final[Mapping[str, str]] = {
    "kill": "kill -9 of a worker or of the process that queues",
    "freeze": "workers frozen past their leases, then thawed (zombies)",
    "clock": "wall clocks 30 s off, and stepped by an hour",
    "network": "connections reset, refused, silent, slow; answers lost",
    "server": "kill -9 of the storage's server",
    "disk": "disk full",
    "memory": "no more memory for a process",
    "readonly": "files that nobody can write",
    "": "no fault: several workers race for the jobs",
}
"""What was tried, by the kind of fault."""

NAMES: Final[Mapping[str, str]] = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mongodb": "MongoDB's stand-in",
}

MUST_NOT_BE: Final = (
    "lost",
    "unexpected",
    "settled_twice",
    "stale_writes_accepted",
    "claimed_twice",
    "claimed_under_a_live_lease",
    "handlers_overlapped",
    "fences_out_of_bounds",
    "results_missing",
    "keys_broken",
    "counts_wrong",
    "started_before_due",
    "leases_too_long",
    "redeliveries_unexplained",
    "stalls",
    "processes_died",
    "errors_surfaced",
)
"""What the oracle counts as failures."""

HEAD: Final = """\
# Reliability

What was tried on real storages with real processes, how often, and what came of it. This page is made from the
records in [reliability/](reliability/) by `python -m docs._make`, and a test compares the two. Each record was written
by a run of `pannier torture`; to repeat one, give its numbers: `pannier torture "sqlite:///{tmp}/jobs.db" --kills 1000
--jobs 40000 --seed 7`.

In a run several worker processes execute jobs of four kinds (short, long, in a thread, failing at first) that another
process queues, half of them with an idempotency key, some a second time, some cancelled. Everybody appends to a journal
what he is about to do and what he was answered; what was written there survives a kill. In the end journal and storage
are held against each other:

- **lost**: acknowledged, and gone, unfinished, or not ended as it should be (I1);
- **unexpected**: there, and nobody stored it (I2);
- **done twice**: ended under two fences, a write accepted under a stale one, or given out twice under one (I3);
- **overlapping**: given out while another lease was live, or two handlers running at a time (I4; a process that stood
  still is let off for what it does in the moment after);
- **other**: fences (I5), results (I6), keys (I7), counts (I8), jobs started before they were due, leases too long, more
  redeliveries than the faults had jobs in their hands, a process that died by itself, an error that reached a caller
  while the storage was well, a run that stalled.

*95 %* is the upper bound of the chance that a fault (in a race: a job) does any such harm, from the number of failures
seen: with none in n it is 3/n, the rule of three.
"""

SOON: Final = """\
The lease of a killed worker must lapse before its jobs start again: within the lease and a second is the aim. The
machine of these runs has few processors, and they were seldom alone on it; in a *standstill* the storage took longer
than a second for a call. After each fault the processes are let alone for a pause; *without a pause* the next one comes
as soon as some more jobs are done, up to 36 a second.
Redelivered can be what the touched processes had in their hands, and what was claimed by calls whose answers were lost.
*Busy* is the share of a processor that a process takes whose storage does not answer. A job is *condemned* when three
workers in a row died while they had it (E14), be it that it only waited there: where workers die all the time that hits
innocents, and the rig requeues them, as an operator would.
"""

FOUND: Final = """\
## What it has found

- Mended: a worker frozen past its leases started, when it woke, what it had claimed ahead, beside another worker's run,
  until it was stopped a moment later: 2 jobs in 210 zombies on SQLite. The runs with zombies are those after the mend.
- Probably explained, not reproduced: on MongoDB's stand-in a job with a key whose caller was killed while storing it
  could not be stored again for two minutes, in four of ten runs on a very busy machine. It seemed as if the key were
  taken by a document that no read finds. But storing what is there already takes three commands, one after another,
  where a new job takes one, and they have to end within the `timeout` of one call. With `timeout=1`, of 25 tries each,
  2, 4 and 6 readers that keep the stand-in busy let 21, 4 and 1 new jobs be stored, and 13, 0 and 0 repeated keys; when
  the readers had gone, all 25. In two runs of kills whose tables were watched no key stood without its document.
- The stand-in's paced kills were made with leases of ten seconds and twenty seconds for a call. With leases of three
  seconds, on a machine with ten busy processes to each of its processors, runs of 20 to 300 kills failed: claims took
  longer than the leases that they gave, and calls were given up.
- Not seen again: in the first 300 kills on the stand-in, on that machine, 25 of 159 handlers began later than a lease
  and a second, 15 of them in a standstill; what the other ten waited for is not known, their journal was not kept.
  Repeated by the same seed with three busy processes to each processor none of 221 was late, and in 100 kills more none
  of 113: the latest began 0.8 s after the end of its lease.
- Not seen again: in the first race on the stand-in 8 calls were told that it did not answer, and in a storm of 50
  kills 26, and that one stalled. Its data lay on a disk that others kept busy then, and calls were given up after five
  seconds. Repeated by the same seeds, with the data in memory and twenty seconds for a call, nothing was found.
- Mended, in the rig: the driver of MongoDB asks the stand-in for its address and goes past the proxy, so that a run of
  60 faults of the network touched nobody, and looked clean. Its record is gone; the rig refuses such a URL now, and
  the stand-in's is one that keeps to the proxy.
- Mended: a job with two lapses was kept, leased, while its worker emptied itself to run it alone (E14), and died there
  with that worker; what was claimed with it was given back, again and again.
- Mended: jobs that had lapsed once were started one by one while last chances had their turn. In three storms of 120
  kills on SQLite 97 of 466 handlers began later than a lease and a second; with the mend, each beside the same storm
  without it, 38 of 515. More are late in longer storms, as the rows without a pause show: they wait for a worker that
  lives long enough. In one of those on PostgreSQL a call was told that the storage did not answer, within the second
  that it is given there; why is not known. In twenty storms of 30 kills it was not seen again.
- The first runs of 1,000 and 300 kills killed a worker as soon as 40 jobs were done, up to 36 a second, so that workers
  lived 50 ms: 129 of 1,219 handlers began late on SQLite and 33 of 336 on PostgreSQL, and 491 and 165 jobs were
  condemned that had done nothing (E14). A journal shows what the late ones waited for: not for the end of the lease,
  which a worker meets within 30 ms, but for their turn among a hundred others, while three to nine more workers died.
  So kills come with a pause now: none of 1,756 on SQLite and of 626 on PostgreSQL was late, on a machine with up to ten
  busy processes to each of its processors. Rows without a pause show what a storm does. Nothing was lost in either.
- Not the worker's: in an earlier run of those 1,000 kills 8 of 1,846 were late, all after one kill, when every process
  waited 1.4 s for the same commit.
- A process that waits for its server is busy 1 to 3 % of the time, with leases of three seconds; a test holds it
  under 5 %.
"""

TAIL: Final = """\
## What is not proved

- **The loss of power.** kill -9 takes a process away, not what the operating system has not written yet. That a commit
  survives it is the engine's promise, and its settings': see the page of each storage.
- **More than one host.** All processes and servers of a run share a machine. Skewed clocks and cut networks are made.
- **MongoDB itself.** The runs called "MongoDB's stand-in" are on SecantusDB, which speaks its protocol.
- **Rare things.** A fault that does harm less often than the bound in its row may have been missed.
- **Disks that lie.** Full ones are tried here, and files that nobody can write.
"""


@frozen
class Row:
    """Runs of one kind on one storage."""

    storage: str
    kinds: tuple[str, ...]
    is_storm: bool
    records: Sequence[Record]

    def total(self, *names: str) -> int:
        """Add up counts of all runs."""
        return int(sum(record.counts.get(name, 0) for record in self.records for name in names))

    @property
    def faults(self) -> int:
        """How many faults."""
        return sum(sum(record.faults.values()) for record in self.records)

    @property
    def failures(self) -> int:
        """How much of what must not be."""
        return self.total(*MUST_NOT_BE)


def page(records: Sequence[Record]) -> str:
    """Return the page."""
    rows = list(_rows(records))
    return "\n".join([HEAD, *_what_came_out(rows), *_how_soon(rows), *_on_what(records), FOUND, TAIL])


def upper_bound(failures: int, trials: int) -> float:
    """
    Return the 95 % upper bound of a rare event's probability, seen *failures* times in *trials*.

    The mean of a Poisson distribution that gives so few or fewer in 5 % of the cases; about 3 for none (the rule of
    three: J. A. Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983).
    """
    if trials == 0:
        return 1.0
    low, high = 0.0, 10.0 * (failures + 1)
    for _ in range(60):
        mean = (low + high) / 2
        chance = sum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(failures + 1))
        low, high = (mean, high) if chance > 0.05 else (low, mean)
    return min(1.0, high / trials)


def _rows(records: Sequence[Record]) -> Iterator[Row]:
    groups: dict[tuple[str, tuple[str, ...], bool], list[Record]] = {}
    for record in records:
        is_storm = [*record.faults] == [FaultKind.KILL] and not record.pause_seconds
        groups.setdefault((record.storage, tuple(sorted(record.faults)), is_storm), []).append(record)
    order = list(WORDS)
    for (storage, kinds, is_storm), found in sorted(
        groups.items(), key=lambda item: ([order.index(kind) for kind in item[0][1] or ("",)], item[0][2], item[0][0])
    ):
        yield Row(storage, kinds, is_storm, found)


def _what_came_out(rows: Sequence[Row]) -> Iterator[str]:
    yield "## What came out\n"
    yield "| tried | on | runs | faults | jobs | lost | unexpected | done twice | overlapping | other | 95 % |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        jobs = row.total("jobs_acknowledged")
        bound = upper_bound(row.failures, row.faults or jobs)
        lost, unexpected = row.total("lost"), row.total("unexpected")
        twice = row.total("settled_twice", "stale_writes_accepted", "claimed_twice")
        overlapping = row.total("claimed_under_a_live_lease", "handlers_overlapped")
        other = row.failures - lost - unexpected - twice - overlapping
        cells = [
            _tried(row),
            NAMES.get(row.storage, row.storage),
            *(f"{number:,}" for number in (len(row.records), row.faults, jobs, lost, unexpected)),
            *(f"{number:,}" for number in (twice, overlapping, other)),
            f"{bound:.2g}" if row.faults else f"{bound:.1e}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _how_soon(rows: Sequence[Row]) -> Iterator[str]:
    """Tell what is measured rather than promised."""
    yield "## How soon, and how often again\n"
    yield SOON
    began = ("tried", "on", "redelivered", "in the faults' hands", "started again", "later than a lease + 1 s")
    ended = ("the latest", "usable again after", "busy while down", "zombies that held jobs", "condemned")
    yield f"| {' | '.join((*began, *ended))} |"
    yield f"| --- | --- |{' ---: |' * 9}"
    for row in rows:
        latest = max(record.counts.get("longest_restart_seconds", 0) for record in row.records)
        recovery = max(record.counts.get("longest_recovery_seconds", 0) for record in row.records)
        busy = max(record.counts.get("busy_percent_while_down", 0) for record in row.records)
        restarted = row.total("interrupted_handlers_restarted")
        numbers = row.total("redeliveries"), row.total("in_flight_at_faults"), restarted
        cells = [
            _tried(row),
            NAMES.get(row.storage, row.storage),
            *(f"{number:,}" for number in numbers),
            _late(row),
            f"{latest:.1f} s" if restarted else "",
            f"{recovery:.2f} s" if recovery else "",
            f"{busy:.1f} %" if busy else "",
            f"{row.total('zombies_with_jobs'):,}" if row.total("zombies") else "",
            f"{row.total('condemned_and_requeued'):,}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _on_what(records: Sequence[Record]) -> Iterator[str]:
    yield "## On what\n"
    yield "| record | versions | machine | workers | lease | pause | took |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for record in records:
        versions = ", ".join(name if kind == "engine" else f"{kind} {name}" for kind, name in record.versions.items())
        machine = f"{record.machine['system']}, {record.machine['machine']}, {record.machine['cpus']} CPUs"
        yield (
            f"| [{record.on}, seed {record.plan['seed']}](reliability/{record.name}) | {versions} | {machine} "
            f"| {record.plan['workers']} | {record.plan['lease_seconds']:g} s | {record.pause_seconds:g} s "
            f"| {record.seconds:,.0f} s |"
        )
    yield ""


def _late(row: Row) -> str:
    late, excused = row.total("restarted_late"), row.total("late_in_a_standstill")
    return f"{late:,} ({excused:,} in a standstill)" if excused else f"{late:,}"


def _tried(row: Row) -> str:
    words = "; ".join(WORDS[kind] for kind in row.kinds or ("",))
    return f"{words}, without a pause" if row.is_storm else words
