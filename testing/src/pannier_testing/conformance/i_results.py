"""Section I: progress while a job runs, its result when it has succeeded."""

from typing import Final

from pannier.errors import UnstorableError
from pannier.inspection import Requeue
from pannier.records import JobRecord, JobStatus, Payload, StoredResult
from pannier.settlements import Outcome, Release, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import LEASE, MINUTE, SECOND, T0, failed, retry
from pannier_testing.checks import show
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Trial, inspector_of, results_of

PAYLOADS: Final = (
    Payload(None),
    Payload(data=False),
    Payload(0),
    Payload(""),
    Payload([]),
    Payload({}),
    Payload(b""),
    Payload({"rows": [1, 2.5, None], "": {"done": True}}),
    Payload(bytes(range(256)), encoding="raw"),
    Payload("text", encoding="json+v2"),
)
LARGE: Final = 17 * 1024 * 1024
"""Bytes of a result for a storage that declares no limit."""


@rule("R68")
async def a_result_comes_back_as_it_was(trial: Trial) -> None:
    """The result of Succeeded comes back exactly; `Payload(None)` is one, and no result is None."""
    storage = await trial.open()
    for result in (None, *PAYLOADS):
        job = await trial.started(storage)
        await acts.must_settle(trial.check, storage, job, Succeeded(result))
        await _check_result(
            trial,
            storage,
            job,
            StoredResult(status=JobStatus.SUCCEEDED, progress=None, result=result, errors=()),
            f"the result {show(result)}",
        )


@rule("R68")
async def only_success_writes_a_result(trial: Trial) -> None:
    """While a job runs only its progress is readable; however it ends otherwise, there is no result."""
    storage = await trial.open()
    error = failed().error
    for outcome, status, errors in (
        (None, JobStatus.RUNNING, ()),
        (Release(), JobStatus.PENDING, ()),
        (retry(T0 + MINUTE), JobStatus.PENDING, (error,)),
        (failed(), JobStatus.FAILED, (error,)),
    ):
        job = await trial.started(storage)
        await _report(trial, storage, job, Payload("half way"))
        if outcome is not None:
            await acts.must_settle(trial.check, storage, job, outcome)
        expected = StoredResult(status=status, progress=Payload("half way"), result=None, errors=errors)
        await _check_result(trial, storage, job, expected, f"a job with progress that is {status}")


@rule("R68")
async def an_unknown_job_has_no_result(trial: Trial) -> None:
    """Nothing is found for an id that was never stored, and a waiting job has neither progress nor result."""
    storage = await trial.open()
    unknown = await trial.check.answers(
        results_of(storage).get_job_result(trial.tracking_id()), "asking for the result of an unknown job is no error"
    )
    trial.check.equal(unknown, None, "the result of an unknown job")
    job = await trial.brought_to(storage, JobStatus.PENDING)
    nothing = StoredResult(status=JobStatus.PENDING, progress=None, result=None, errors=())
    await _check_result(trial, storage, job, nothing, "a job that waits")


async def _report(trial: Trial, storage: JobStorageProvider, job: JobRecord, progress: Payload) -> None:
    is_kept = await results_of(storage).store_progress(job.lease, progress)
    trial.check.true(is_kept, "the holder of a lease can store progress", expected="True", seen=is_kept)


async def _check_result(
    trial: Trial, storage: JobStorageProvider, job: JobRecord, expected: StoredResult, which: str
) -> None:
    """Check what get_job_result and get_job say of *job*."""
    seen = await results_of(storage).get_job_result(job.tracking_id)
    trial.check.equal(seen, expected, f"{which}, as get_job_result gives it")
    record = await storage.get_job(job.tracking_id)
    trial.check.equal(
        None if record is None else (record.status, record.progress, record.result, record.errors),
        (expected.status, expected.progress, expected.result, expected.errors),
        f"{which}, as get_job gives it",
    )


@rule("R69")
async def the_last_progress_is_seen_everywhere_at_once(trial: Trial) -> None:
    """Of several writes of progress the last one stands, and other instances see each of them at once."""
    storage, second, third = await trial.open(), await trial.open(), await trial.open_on_thread()
    job = await trial.started(storage)
    for progress in (*PAYLOADS, PAYLOADS[0], PAYLOADS[-1]):
        await _report(trial, storage, job, progress)
        seen = await results_of(second).get_job_result(job.tracking_id)
        trial.check.equal(
            seen,
            StoredResult(status=JobStatus.RUNNING, progress=progress, result=None, errors=()),
            "the last progress, as another instance sees it",
        )
        record = await third.run(lambda instance: instance.get_job(job.tracking_id))
        trial.check.equal(
            None if record is None else record.progress,
            progress,
            "the last progress, as an instance on another thread sees it",
        )


@rule("R69")
async def progress_outlives_every_end_but_success(trial: Trial) -> None:
    """Progress survives Retry, Release, Failed, cancel and the next claim; Succeeded and only it clears it."""
    storage = await trial.open()
    progress = Payload({"done": 7})
    ends = T0 + MINUTE
    outcomes: tuple[Outcome, ...] = (
        retry(T0), Release(), failed(), retry(ends), Succeeded(), Succeeded(Payload("all"))
    )  # fmt: skip
    for outcome in outcomes:
        job = await trial.started(storage, trial.job(trial.queue(), expire_on=ends))
        await _report(trial, storage, job, progress)
        await acts.must_settle(trial.check, storage, job, outcome)
        kept = None if isinstance(outcome, Succeeded) else progress
        (record,) = await trial.read(storage, job)
        trial.check.equal(record.progress, kept, f"the progress of a job that was settled as {type(outcome).__name__}")
        for again in await acts.claim(storage, job.queue_id, now=T0):
            trial.check.equal(again.progress, progress, "the progress of a job that is claimed again")
    job = await trial.started(storage)
    await _report(trial, storage, job, progress)
    await acts.cancelled(storage, job)
    (record,) = await trial.read(storage, job)
    trial.check.equal(record.progress, progress, "the progress of a job that was cancelled")


@rule("R69")
async def progress_under_a_lapsed_lease_is_kept(trial: Trial) -> None:
    """A lease that has lapsed still counts, until its job is taken over: progress under it is kept."""
    storage = await trial.open()
    job, later = await trial.started(storage), T0 + 2 * LEASE
    # Whatever tells the storage how late it is: other jobs are claimed, renewed, settled and purged by then.
    other = await trial.started(storage, now=later)
    await acts.renew(storage, other, now=later)
    await acts.must_settle(trial.check, storage, other, failed(), now=later)
    await acts.purge(storage, JobStatus.FAILED, now=later, queue_ids=frozenset({other.queue_id}))

    await _report(trial, storage, job, Payload("late"))

    (record,) = await trial.read(storage, job)
    trial.check.equal(record.progress, Payload("late"), "the progress under a lapsed lease")


@rule("R69", needs=frozenset({Need.INSPECT}))
async def a_requeue_clears_progress_and_result(trial: Trial) -> None:
    """What an earlier life of a job left is gone once the job is requeued."""
    storage = await trial.open()
    job = await trial.started(storage)
    await _report(trial, storage, job, Payload("half way"))
    await acts.must_settle(trial.check, storage, job, failed())

    answer = await inspector_of(storage).requeue_job(job.tracking_id, now=T0, expire_on=None)

    trial.check.equal(answer, Requeue.REQUEUED, "a failed job can be requeued")
    cleared = StoredResult(status=JobStatus.PENDING, progress=None, result=None, errors=(failed().error,))
    await _check_result(trial, storage, job, cleared, "a job that was requeued")


@rule("R70")
async def progress_and_result_live_as_long_as_their_job(trial: Trial) -> None:
    """They are readable again and again until the job is purged, and gone after."""
    storage = await trial.open()
    running, done, lost = [await trial.started(storage) for _ in range(3)]
    await _report(trial, storage, running, Payload("half way"))
    await acts.must_settle(trial.check, storage, done, Succeeded(Payload("all")))
    await _report(trial, storage, lost, Payload("nearly"))
    await acts.must_settle(trial.check, storage, lost, failed())
    half_way = StoredResult(status=JobStatus.RUNNING, progress=Payload("half way"), result=None, errors=())
    expected = (
        (running, half_way),
        (done, StoredResult(status=JobStatus.SUCCEEDED, progress=None, result=Payload("all"), errors=())),
        (
            lost,
            StoredResult(status=JobStatus.FAILED, progress=Payload("nearly"), result=None, errors=(failed().error,)),
        ),
    )
    kept = (JobStatus.SUCCEEDED, JobStatus.FAILED)
    for _ in range(3):
        for job, stored in expected:
            await _check_result(trial, storage, job, stored, f"what is read of a job that is {stored.status}")
        await acts.purge(storage, *kept, now=T0 + MINUTE - trial.tick, keep=MINUTE)

    await acts.purge(storage, *kept, now=T0 + MINUTE, keep=MINUTE)

    for job in (done, lost):
        gone = await results_of(storage).get_job_result(job.tracking_id)
        trial.check.equal(gone, None, "the result of a job that was purged")
    await _check_result(trial, storage, running, half_way, "the progress of a job that a purge leaves")


@rule("R70")
async def a_result_that_another_instance_has_purged_is_gone(trial: Trial) -> None:
    """An instance that has read a result reads none once another one has purged its job."""
    storage, second = await trial.open(), await trial.open()
    done = await trial.started(storage)
    await acts.must_settle(trial.check, storage, done, Succeeded(Payload("all")))
    expected = StoredResult(status=JobStatus.SUCCEEDED, progress=None, result=Payload("all"), errors=())
    for _ in range(2):
        await _check_result(trial, storage, done, expected, "what is read of a job that succeeded")

    await acts.purge(second, JobStatus.SUCCEEDED, now=T0, queue_ids=frozenset({done.queue_id}))

    gone = await results_of(storage).get_job_result(done.tracking_id)
    trial.check.equal(gone, None, "the result of a job that another instance has purged")


@rule("R71")
async def a_result_over_the_limit_is_refused(trial: Trial) -> None:
    """A result or progress over the declared size is UnstorableError; the job is still leased, and can be settled."""
    storage = await trial.open()
    limit = trial.capabilities.max_payload
    if limit is None:
        await _check_large_result(trial, storage)
        return
    for result in (Payload(b"x" * (limit + 1)), Payload("x" * (limit - 1))):  # the text has two quotes
        job = await trial.started(storage)
        error = await trial.check.raises(
            UnstorableError,
            acts.settle(storage, job, Succeeded(result)),
            f"a result of {limit + 1} bytes, where {limit} are declared, is refused",
        )
        trial.check.equal(error.tracking_id, job.tracking_id, "the error of an oversize result names its job")
        await trial.check.raises(
            UnstorableError,
            results_of(storage).store_progress(job.lease, result),
            f"progress of {limit + 1} bytes, where {limit} are declared, is refused",
        )
        trial.check.equal(await trial.read(storage, job), [job], "an oversize result changes nothing: the lease stands")
        hidden = await acts.claimed_ids(storage, job.queue_id, now=T0 + LEASE - trial.tick)
        trial.check.equal(hidden, [], "a job whose result was refused is still leased")
        await acts.must_settle(trial.check, storage, job, failed(), now=T0 + SECOND)
        (record,) = await trial.read(storage, job)
        trial.check.equal(record.status, JobStatus.FAILED, "a job whose result was refused can be settled otherwise")


async def _check_large_result(trial: Trial, storage: JobStorageProvider) -> None:
    """Check that a storage without a limit of its own keeps a large result whole."""
    job = await trial.started(storage)
    result = Payload("x" * LARGE)
    await trial.check.answers(
        acts.must_settle(trial.check, storage, job, Succeeded(result)), "no size is refused where none is declared"
    )
    (record,) = await trial.read(storage, job)
    trial.check.equal(record.result, result, "a large result, where no limit is declared, comes back whole")
