"""The verdict: what must hold once everything is mended and done."""

from collections import Counter
from collections.abc import Collection
from typing import Final

from pannier.inspection import JobFilter
from pannier.records import JobRecord, JobStatus
from tests.engine.simulation.journal import End
from tests.engine.simulation.ledger import DIED, Known
from tests.engine.simulation.program import LAYERS, LIMITS, Fashion, Script
from tests.engine.simulation.story import Story
from tests.engine.simulation.world import World

PROMISED: Final = {Fashion.WRONG: "E12", Fashion.UNSTORABLE: "E16"}
"""Which rule says what becomes of a job whose handler ends so."""

MOST_CALLS: Final = 150
"""How often a process that gets no answer may ask in a second, all of its parts together."""


async def judge(world: World, story: Story) -> None:
    """Compare what is stored with what was acknowledged, done and answered (I1-I8)."""
    stored: dict[JobStatus, int] = Counter()
    for tracking_id, known in world.ledger.jobs.items():
        job = await world.truth.get_job(tracking_id)
        if job is None:
            world.journal.violated("I1", f"{world.ledger.name(tracking_id)} is lost")
            continue
        stored[job.status] += 1
        _judge_job(world, story, job, known)
    counted: Counter[JobStatus] = Counter()
    for (_, status), count in (await world.truth.count_jobs(JobFilter())).items():
        counted[status] += count
    if +counted != +Counter(stored):
        world.journal.violated("I8", f"counted {counted}, found {stored}")
    for tracking_id in story.acknowledged.keys() - world.ledger.jobs.keys():
        world.journal.violated("I1", f"{tracking_id} was acknowledged and never stored")
    _judge_runs(world)
    if world.weather.hurry > MOST_CALLS:
        world.journal.violated("R113", f"a process that was cut off called {world.weather.hurry} times a second")
    for fault in world.universe.faults:
        world.journal.violated("E8", fault)


def _judge_job(world: World, story: Story, job: JobRecord, known: Known) -> None:
    name, script = world.ledger.name(job.tracking_id), story.scripts[job.tracking_id]
    if not job.is_complete:
        world.journal.violated(PROMISED.get(script.fashion, "I1"), f"{name} is still {job.status}")
        return
    if job.fence != len(known.grants) + known.requeues:
        world.journal.violated("I5", f"{name} has fence {job.fence} after {len(known.grants)} claims")
    if job.status is JobStatus.SUCCEEDED and job.result is None:
        world.journal.violated("I6", f"{name} succeeded without a result")
    if job.status not in _allowed(job, known, script, was_cancelled=job.tracking_id in story.attempted):
        kinds = [error.kind for error in job.errors]
        rule = PROMISED.get(script.fashion, "E4")
        world.journal.violated(rule, f"{name}, told to {script}, is {job.status} after {kinds}")


def _allowed(job: JobRecord, known: Known, script: Script, *, was_cancelled: bool) -> set[JobStatus]:
    allowed = set(_expected(job, known, script))
    if was_cancelled or known.is_cancelled:
        allowed.add(JobStatus.CANCELLED)
    if job.expire_on is not None:
        allowed |= {JobStatus.EXPIRED, JobStatus.FAILED}
    if job.errors and job.errors[-1].kind == DIED:
        allowed.add(JobStatus.FAILED)
    return allowed


def _expected(job: JobRecord, known: Known, script: Script) -> Collection[JobStatus]:
    if "script" not in _tree(known.job) or known.job.metadata or script.fashion is not Fashion.RETURN:
        return [JobStatus.FAILED]
    limit = LIMITS.get(job.queue_id)
    was_held = any(grant.run is not None and grant.run.was_held for grant in known.grants)
    # A loop that stands still makes its handlers late, and stops none; a report waits for the storage.
    if limit is not None and (was_held or script.reports):
        return [JobStatus.SUCCEEDED, JobStatus.FAILED]
    if limit is None or script.seconds + script.blocks < limit:
        return [JobStatus.SUCCEEDED]
    return [JobStatus.FAILED]


def _tree(job: JobRecord) -> Collection[str]:
    return job.command.data if isinstance(job.command.data, dict) else ()


def _judge_runs(world: World) -> None:
    gone = {process.name for process in world.processes if process.ended_at is None}
    for run in world.journal.runs:
        if run.end not in (End.RETURNED, End.RAISED) or run.place.name in gone:
            continue
        if run.grant.outcome is None and not run.grant.is_refused and world.ledger.stands(run.grant):
            world.journal.violated("E4", f"what became of #{run.number} was never settled")
    for process in world.processes:
        layers = process.actor.layers
        if layers != [*LAYERS] * (len(layers) // 2):
            world.journal.violated("E9", f"{process.name} ran handlers inside of {layers}")
