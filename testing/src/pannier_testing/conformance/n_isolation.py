"""Section N: namespaces share nothing, and a queue is named by its name, to the letter."""

import secrets
import unicodedata
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from attrs import evolve
from hypothesis import strategies as st

from pannier.claims import Claim, Demand
from pannier.errors import UnstorableError
from pannier.inspection import JobFilter
from pannier.notices import NoticeKind
from pannier.records import COMPLETE, Cancellation, JobRecord, JobStatus, Lease
from pannier.settlements import Succeeded
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing import acts
from pannier_testing.builders import LEASE, LOOK_AHEAD, MINUTE, T0, WORKER
from pannier_testing.hearing import Hearing, tells
from pannier_testing.rules import Need, rule
from pannier_testing.subject import MARK
from pannier_testing.trial import Trial, inspector_of

NAMES: Final = (
    *("mail", "Mail", "MAIL", " mail", "mail ", "mail  ", "mail\t", "mail\n", "m%", "m_il", "ma*l", "%", "_", "*"),
    *(
        "mail\0",
        "mail\0old",
        "m\\ail",
        "?",
        ".",
        "..",
        ":",
        "/",
        "\\",
        "'",
        '"',
        "`",
        ";",
        "--",
        "/*",
        "#",
        "$",
        "@",
        "[]",
        "{}",
        "()",
        "|",
        "&",
    ),
    *("mail'; DROP TABLE pannier_jobs; --", '"mail"', "'mail'", "mail.old", "mail,old", "null", "None", "true", "0"),
    *("00", "1", "1.0", "$mail", "a.b", "\u00e9", "e\u0301", "\u00df", "ss", "\u0131", "i", "\u0130", "I", "\u03c3"),
    *("\u03c2", "\u00c5", "\u212b", "\ufb01", "fi", "\u200b", "\ufeff", "\u202email", "\u05d0\u05d1", "\u6f22\u5b57"),
    *("\N{GRINNING FACE}", "\U0001f468\u200d\U0001f469", "a" * 254, "a" * 255, "\u00e9" * 255, "\U00010348" * 255),
)


@asynccontextmanager
async def similar_places(trial: Trial) -> AsyncIterator[list[str]]:
    """Lend the URLs of three namespaces: the second begins with the first's name, the third matches it as a pattern."""
    name = f"{MARK}{secrets.token_hex(4)}_a"
    async with AsyncExitStack() as stack:
        names = (name, f"{name}b", f"{name[:-2]}x{name[-1]}")
        yield [await stack.enter_async_context(trial.another_place(each)) for each in names]


@rule("R95")
async def nothing_crosses_between_namespaces(trial: Trial) -> None:
    """Whatever is done in one namespace, the jobs of two others with similar names stay as they are, unseen from it."""
    async with similar_places(trial) as urls:
        acting, *others = [await trial.open(url) for url in urls]
        mine = trial.job("mail", key="k", metadata={"tenant": "acme"}, expire_on=T0 + MINUTE)
        theirs = [evolve(mine, command=evolve(mine.command, data=f"of {url}")) for url in urls[1:]]
        beside = trial.job("mail", key="k2", expire_on=T0 + MINUTE)
        for storage, job in zip(others, theirs, strict=True):
            trial.check.equal(
                await storage.store_jobs([job, beside]), [job.tracking_id, beside.tracking_id], "both are new"
            )
        await _look_for_nothing(trial, acting, beside)
        stored = await acting.store_jobs([mine])
        trial.check.equal(stored, [mine.tracking_id], "an id and a key of another namespace are free in this one")
        trial.check.equal(await trial.read(acting, mine), [mine], "the job of this namespace")
        other_key = trial.job("mail", key="k2")
        stored = await acting.store_jobs([other_key])
        trial.check.equal(stored, [other_key.tracking_id], "a key of another namespace is free in this one")
        taken = await acts.claim(acting, "mail")
        trial.check.counts(
            (job.tracking_id for job in taken), (mine.tracking_id, other_key.tracking_id), "a claim of one namespace"
        )
        for storage in others:
            lost = await storage.renew_leases([job.lease for job in taken], now=T0, lease_for=LEASE)
            trial.check.equal(lost, frozenset(job.lease for job in taken), "a lease of another namespace is lost")
            for job in taken:
                why = "its lease is one of another namespace"
                await acts.must_refuse(trial.check, storage, job, Succeeded(), why)
        trial.check.equal(await trial.read(acting, *taken), taken, "jobs that were settled in another namespace")
        await _end_everything(acting, taken)
        for storage, job in zip(others, theirs, strict=True):
            trial.check.equal(
                await trial.read(storage, job, beside), [job, beside], "the jobs of a namespace where nothing was done"
            )


async def _look_for_nothing(trial: Trial, storage: JobStorageProvider, foreign: JobRecord) -> None:
    """Check that *foreign*, a job of another namespace, is not seen by any verb."""
    trial.check.equal(await storage.get_job(foreign.tracking_id), None, "a job of another namespace, by its id")
    trial.check.equal(await acts.claimed_ids(storage, "mail"), [], "a claim where only another namespace has jobs")
    answer = await acts.cancelled(storage, foreign)
    trial.check.equal(answer, Cancellation.NOT_FOUND, "cancelling a job of another namespace")
    purged = await acts.purge(storage, *COMPLETE, now=T0 + 2 * MINUTE)
    trial.check.equal((purged.expired, purged.deleted), (0, 0), "a purge where only another namespace has jobs")
    lost = await storage.renew_leases([Lease(foreign.tracking_id, 1)], now=T0, lease_for=LEASE)
    trial.check.equal(len(lost), 1, "renewing a lease of another namespace")
    if trial.offers(Need.INSPECT):
        page = await inspector_of(storage).find_jobs(JobFilter())
        trial.check.equal(page.jobs, (), "the list where only another namespace has jobs")
        counts = await inspector_of(storage).count_jobs(JobFilter())
        trial.check.equal(sum(counts.values()), 0, "the counts where only another namespace has jobs")


async def _end_everything(storage: JobStorageProvider, taken: list[JobRecord]) -> None:
    """Settle, cancel and purge all that there is."""
    first, *rest = taken
    await acts.settle(storage, first, Succeeded())
    for job in rest:
        await acts.cancelled(storage, job)
    await acts.purge(storage, *COMPLETE, now=T0 + 2 * MINUTE)
    await acts.purge(storage, *COMPLETE, now=T0 + 2 * MINUTE)


@rule("R95", needs=frozenset({Need.NOTIFY}))
async def no_notice_crosses_between_namespaces(trial: Trial) -> None:
    """A listener hears of its own namespace, not of jobs in others whose queues are called the same."""
    async with similar_places(trial) as urls:
        listening, acting, *others = [await trial.open(url) for url in (urls[0], *urls)]
        mine = trial.job("mail")
        await acting.store_jobs([mine])
        async with Hearing.of(listening, "mail") as hearing:
            await hearing.settled()
            for other in others:
                await other.store_jobs([trial.job("mail")])
            await acts.cancelled(acting, mine)
            took, heard = await hearing.until(lambda notice: tells(notice, NoticeKind.CANCELLED, "mail"))
        trial.check.true(took is not None, "a listener hears of its namespace", expected="CANCELLED", seen=heard)
        crossed = [notice for notice in heard if notice.kind is NoticeKind.QUEUED]
        trial.check.equal(crossed, [], "notices that a listener hears of jobs that other namespaces got")
        for opened in (listening, acting, *others):
            await opened.close()


@rule("R95")
async def destroying_a_namespace_leaves_the_others(trial: Trial) -> None:
    """The adapter's destroy removes what was made in one namespace, all of it, and nothing of two similar ones."""
    async with similar_places(trial) as urls:
        job = trial.job("mail", key="k")
        storages = [await trial.open(url) for url in urls]
        for storage in storages:
            await storage.store_jobs([job])
        await storages[0].close()

        await trial.subject.adapter(urls[0]).destroy(StorageUrl(urls[0]))

        for storage in (*storages[1:], *[await trial.open(url) for url in urls[1:]]):
            trial.check.equal(
                await storage.get_job(job.tracking_id), job, "a job of another namespace than the destroyed one"
            )
        storage = await trial.open(urls[0])
        trial.check.equal(await storage.get_job(job.tracking_id), None, "a job of the destroyed namespace")
        again = trial.job("mail", key="k")
        trial.check.equal(
            await storage.store_jobs([again]), [again.tracking_id], "a key of the destroyed namespace is free"
        )
        for opened in (*storages, storage):
            await opened.close()


@rule("R96")
async def queues_are_named_to_the_letter(trial: Trial) -> None:
    """Names that differ by case, form or blanks, or hold what an engine may take for a sign, are different queues."""
    storage = await trial.open()
    made_up = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255)
    names = list(dict.fromkeys([*NAMES, *trial.examples(made_up, 40)]))
    jobs = {name: job for name in names if (job := await _stored_in(trial, storage, name)) is not None}
    trial.check.true("mail" in jobs, "a plain queue name is taken", expected="'mail'", seen=sorted(jobs)[:9])
    for name, job in jobs.items():
        if trial.offers(Need.INSPECT):
            await _check_listed(trial, storage, name, job)
        purged = await acts.purge(storage, JobStatus.CANCELLED, now=T0, queue_ids=frozenset({name}))
        trial.check.equal(purged.deleted, 0, f"nothing is over in the queue {name!r}")
        taken = await acts.claimed_ids(storage, name)
        trial.check.equal(taken, [job.tracking_id], f"a claim of the queue {name!r} ({_spelt(name)})")
    everything = await storage.claim_jobs(
        Claim(
            demands=tuple(Demand((name,), 2) for name in jobs),
            worker_id=WORKER,
            now=T0 + LEASE,
            lease_for=LEASE,
            look_ahead=LOOK_AHEAD,
        )
    )
    trial.check.counts(
        ((job.queue_id, job.tracking_id) for job in everything.jobs),
        ((name, job.tracking_id) for name, job in jobs.items()),
        "a claim of all the queues at once",
    )
    for job in jobs.values():
        await acts.cancelled(storage, job)
    for name in jobs:
        purged = await acts.purge(storage, JobStatus.CANCELLED, now=T0, queue_ids=frozenset({name}))
        trial.check.equal(purged.deleted, 1, f"what a purge deletes of the queue {name!r} ({_spelt(name)})")


async def _stored_in(trial: Trial, storage: JobStorageProvider, name: str) -> JobRecord | None:
    """Store a job in the queue called *name*; None where the storage says that it can't have such a queue."""
    job = trial.job(name)

    async def store() -> JobRecord | None:
        try:
            await storage.store_jobs([job])
        except UnstorableError:
            return None
        return job

    kept = await trial.check.answers(store(), f"a queue called {name!r}: taken, or refused by UnstorableError")
    found = await storage.get_job(job.tracking_id)
    trial.check.equal(found, kept, f"a job of the queue {name!r}, or none where the name was refused")
    return kept


async def _check_listed(trial: Trial, storage: JobStorageProvider, name: str, job: JobRecord) -> None:
    wanted = JobFilter(queue_ids=frozenset({name}))
    page = await inspector_of(storage).find_jobs(wanted)
    trial.check.equal(page.jobs, (job,), f"the list of the queue {name!r} ({_spelt(name)})")
    counts = await inspector_of(storage).count_jobs(wanted)
    seen = {which: count for which, count in counts.items() if count}
    trial.check.equal(seen, {(name, JobStatus.PENDING): 1}, f"the counts of the queue {name!r} ({_spelt(name)})")


def _spelt(name: str) -> str:
    """Say what can't be seen of *name*."""
    form = "NFC" if unicodedata.is_normalized("NFC", name) else "not NFC"
    return f"{len(name)} characters, {form}"
