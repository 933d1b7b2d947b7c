"""Section P: what is stored comes back as it was, or is refused; nothing is altered, folded or cut."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf, nan
from random import Random
from typing import Final
from uuid import UUID

from attrs import evolve, frozen
from hypothesis import strategies as st

from pannier.codec import ConverterCodec
from pannier.errors import UnstorableError
from pannier.inspection import JobFilter
from pannier.records import JobRecord, JobStatus, Json, Lease, Payload
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier_testing import acts
from pannier_testing.builders import SECOND, T0, claim_of
from pannier_testing.checks import show
from pannier_testing.rules import Need, rule
from pannier_testing.trial import Profile, Trial, inspector_of, results_of

TEXT: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
"""Text that every engine holds: neither NUL nor lone surrogates."""

KIBI: Final = 1024
MEBI: Final = 1024 * KIBI

LEAVES: Final = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | TEXT
TREES: Final[st.SearchStrategy[Json]] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)

ODD_TEXTS: Final = (
    "\N{GRINNING FACE} astral",
    "e\u0301 combining \u0041\u030a",
    "\u05e9\u05dc\u05d5\u05dd right to left \u202e",
    "\ufeffa mark first",
    "zero\u200bwidth\u200d",
    "\ufffe\uffff no characters",
    "\x01\x1f\x7f\x85 control",
    "line\r\nfeed\ttab ",
    " blanks ",
    "before\0after",
    "\0",
    "a\ud800b",
    "\udfff",
    "\ud83d\ude00 a pair, each alone",
    "a" * 600,
    "\u00e9" * 5_000,
    "\U00010348" * 20_000,
)


async def stored_or_refused(trial: Trial, storage: JobStorageProvider, job: JobRecord, which: str) -> JobRecord | None:
    """Store *job*; return it as it is read and claimed, exact, or None where it was refused, and then nothing of it."""

    async def store() -> bool:
        try:
            await storage.store_jobs([job])
        except UnstorableError as error:
            trial.check.equal(error.tracking_id, job.tracking_id, f"the error that refuses {which} names its job")
            return False
        return True

    is_kept = await trial.check.answers(store(), f"{which} is stored, or refused by UnstorableError")
    seen = await trial.check.answers(storage.get_job(job.tracking_id), f"a job with {which} can be read")
    trial.check.equal(seen, trial.as_stored(job) if is_kept else None, f"{which}, exact as stored, or refused whole")
    return seen


async def check_exact(trial: Trial, storage: JobStorageProvider, payloads: Sequence[Payload], which: str) -> None:
    """Check that *payloads*, which every storage holds, come back exact as commands, progress and results."""
    queue = trial.queue()
    jobs = [evolve(trial.job(queue), command=payload) for payload in payloads]
    await trial.check.answers(storage.store_jobs(jobs), f"{which} can be stored")
    for job, seen in zip(jobs, await trial.read(storage, *jobs), strict=True):
        trial.check.equal(seen.command, job.command, f"{which}, as get_job gives it")
    claimed = {job.tracking_id: job for job in await acts.claim(storage, queue, limit=len(jobs))}
    for job in jobs:
        trial.check.equal(claimed[job.tracking_id].command, job.command, f"{which}, as a claim gives it")
    if trial.offers(Need.RESULTS):
        await _check_exact_results(trial, storage, jobs, which)


async def _check_exact_results(
    trial: Trial, storage: JobStorageProvider, jobs: Sequence[JobRecord], which: str
) -> None:
    results = results_of(storage)
    for job in jobs:
        await results.store_progress(Lease(job.tracking_id, 1), job.command)
        stored = await results.get_job_result(job.tracking_id)
        trial.check.equal(None if stored is None else stored.progress, job.command, f"{which}, as progress")
    await storage.settle_jobs([Settlement(Lease(job.tracking_id, 1), Succeeded(job.command)) for job in jobs], now=T0)
    for job in jobs:
        stored = await results.get_job_result(job.tracking_id)
        trial.check.equal(None if stored is None else stored.result, job.command, f"{which}, as a result")


@rule("R100")
async def bytes_come_back_as_they_were(trial: Trial) -> None:
    """Payloads of bytes are exact: all 256 values, NUL, invalid UTF-8, nothing at all, and what Hypothesis makes up."""
    storage = await trial.open()
    table = (
        b"",
        b"\0",
        bytes(range(256)),
        bytes(range(255, -1, -1)) * 3,
        b"\xff\xfe\xfd",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b'{"looks": "like JSON"}',
        b"null",
        b"\r\n",
        b"trailing\0\0",
        b"\x1f\x8b\x08",
        "naïve".encode("utf-16"),
    )
    made_up = trial.examples(st.binary(max_size=300), 40)
    payloads = [Payload(data, encoding) for data in table for encoding in ("json", "json+zstd+aes:k3")]
    await check_exact(trial, storage, [*payloads, *map(Payload, made_up)], "a payload of bytes")


@rule("R101")
async def texts_of_a_job_are_exact_or_refused(trial: Trial) -> None:
    """Key, queue, metadata and encoding come back to the letter, or store_jobs refuses them and keeps nothing."""
    storage = await trial.open()
    for text in (*ODD_TEXTS, *trial.examples(st.text(min_size=1, max_size=60), 12)):
        fields = {
            "metadata value": trial.job(trial.queue(), metadata={"note": text}),
            "metadata key": trial.job(trial.queue(), metadata={text: "note", "other": "one"}),
            "idempotency key": trial.job(trial.queue(), key=text),
            "payload's encoding": evolve(trial.job(trial.queue()), command=Payload("x", text)),
        }
        if len(text) <= 255:
            fields["queue"] = trial.job(text)
        for field, job in fields.items():
            which = f"{show(text)} as {field}"
            kept = await stored_or_refused(trial, storage, job, which)
            if kept is not None:
                taken = await acts.claim(storage, job.queue_id, limit=1)
                trial.check.equal(
                    [(each.command, each.idempotency_key, dict(each.metadata)) for each in taken],
                    [(job.command, job.idempotency_key, dict(job.metadata))],
                    f"{which}, as a claim gives it",
                )


@rule("R101")
async def a_worker_s_name_is_exact_or_refused(trial: Trial) -> None:
    """What a worker calls itself stands in the job to the letter, or its claim is refused and takes nothing."""
    storage = await trial.open()
    for text in (*ODD_TEXTS, *trial.examples(st.text(min_size=1, max_size=60), 15)):
        job = trial.job(trial.queue())
        await storage.store_jobs([job])
        which = f"a claim of the worker {show(text)}"

        async def claim(job: JobRecord = job, text: str = text) -> bool:
            try:
                await acts.claim(storage, job.queue_id, worker=text)
            except UnstorableError:
                return False
            return True

        is_taken = await trial.check.answers(claim(), f"{which}: an answer, or UnstorableError")
        (seen,) = await trial.read(storage, job)
        expected = (JobStatus.RUNNING, 1, text) if is_taken else (JobStatus.PENDING, 0, None)
        trial.check.equal((seen.status, seen.fence, seen.worker_id), expected, f"{which}: exact, or nothing taken")


@rule("R102")
async def any_size_is_exact_or_refused(trial: Trial) -> None:
    """Payloads from nothing to 16 MiB, and around the declared limit, come back whole, or are refused whole."""
    storage = await trial.open()
    limit = trial.capabilities.max_payload
    for size in sizes_to_try(limit, trial.profile):
        payloads = [Payload(bytes_of(size, trial.rng)), Payload("x" * (size - 2))]  # the text stands in two quotes
        chosen = payloads[:1] if size < 2 else payloads if size <= 2 * MEBI else [trial.rng.choice(payloads)]
        for payload in chosen:
            which = f"a payload of {type(payload.data).__name__}, {size} bytes"
            job = evolve(trial.job(trial.queue()), command=payload)
            kept = await stored_or_refused(trial, storage, job, which)
            if limit is not None:
                trial.check.equal(kept is not None, size <= limit, f"{which}, is kept; {limit} are declared")


def bytes_of(size: int, rng: Random) -> bytes:
    """Return *size* bytes of no pattern that compresses away, but quickly."""
    piece = rng.randbytes(min(size, 64 * KIBI + 7))
    return (piece * (size // max(1, len(piece)) + 1))[:size]


def sizes_to_try(limit: int | None, profile: Profile) -> list[int]:
    """Return the sizes of payloads in bytes; the quick profile goes up to a limit over 16 MiB in one step."""
    sizes = [0, 1, 64 * KIBI - 1, 64 * KIBI, 64 * KIBI + 1, MEBI, 16 * MEBI]
    if limit is None:
        return sizes
    if limit <= 16 * MEBI or profile is not Profile.QUICK:
        sizes.append(limit - 1)
    return [*sizes, limit, limit + 1]


@rule("R103")
async def deep_and_wide_payloads_are_exact_or_refused(trial: Trial) -> None:
    """Trees of 1,000 levels or 100,000 entries come back whole or are refused; no stack overflows, and work goes on."""
    storage = await trial.open()
    trees: dict[str, Json] = {
        "1,000 lists in each other": nested_lists(1_000),
        "1,000 dicts in each other": nested_dicts(1_000),
        "10,000 lists in each other": nested_lists(10_000),
        "10,000 dicts in each other": nested_dicts(10_000),
    }
    wide: dict[str, Json] = {
        "a list of 100,000 numbers": list(range(100_000)),
        "a dict of 100,000 entries": {f"key {n}": n for n in range(100_000)},
    }
    for which, tree in (trees | wide).items():
        job = evolve(trial.job(trial.queue()), command=Payload(tree))
        kept = await stored_or_refused(trial, storage, job, which)
        if kept is not None:
            taken = await trial.check.answers(acts.claim(storage, job.queue_id), f"a job with {which} can be claimed")
            trial.check.equal([each.command for each in taken], [job.command], f"{which}, as a claim gives it")
        if trial.offers(Need.RESULTS) and which in trees:
            await _check_result_or_refused(trial, storage, Payload(tree), which)


def nested_lists(levels: int) -> Json:
    """Return so many lists in each other."""
    tree: Json = []
    for _ in range(levels - 1):
        tree = [tree]
    return tree


def nested_dicts(levels: int) -> Json:
    """Return so many dicts in each other."""
    tree: Json = {}
    for _ in range(levels - 1):
        tree = {"a": tree}
    return tree


async def _check_result_or_refused(trial: Trial, storage: JobStorageProvider, payload: Payload, which: str) -> None:
    """Check that *payload* is kept whole as progress and as a result, or refused, the lease as it was."""
    job = await trial.started(storage)

    async def report() -> bool:
        try:
            return await results_of(storage).store_progress(job.lease, payload)
        except UnstorableError:
            return False

    async def succeed() -> bool:
        try:
            return await acts.settle(storage, job, Succeeded(payload), now=T0 + SECOND)
        except UnstorableError:
            return False

    is_progress = await trial.check.answers(report(), f"{which} is kept as progress, or UnstorableError")
    expected = evolve(job, progress=payload if is_progress else None)
    trial.check.equal(await trial.read(storage, job), [expected], f"progress of {which}, whole or refused")
    is_result = await trial.check.answers(succeed(), f"{which} is kept as a result, or UnstorableError")
    if is_result:
        expected = evolve(job, status=JobStatus.SUCCEEDED, finished_at=T0 + SECOND, result=payload, progress=None)
    trial.check.equal(await trial.read(storage, job), [expected], f"a result of {which}, whole or refused")


NUMBERS: Final[tuple[Json, ...]] = (
    *(0, -1, 1, True, False, 0.0, -0.0, 1.0, 1e300, 5e-324, 2.2250738585072014e-308, 0.1, 0.30000000000000004),
    *(1.7976931348623157e308, -1.5, 1e16, 123456789012345680.0, 1e22, 2.0**53, 9007199254740993.0),
    *(2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1),
    *(10**40, -(10**400), 10**400, 10**4299, 10**5000),
    *("1", "1.0", "NaN", "Infinity", "1e5", "0x10"),
)


@rule("R104")
async def numbers_are_never_altered(trial: Trial) -> None:
    """Integers of any size and floats come back as the same value of the same type, or are refused."""
    storage = await trial.open()
    floats = st.floats(allow_nan=False, allow_infinity=False)
    integers = st.integers() | st.integers(-(2**70), 2**70)
    made_up = [*trial.examples(floats, 20), *trial.examples(integers, 20)]
    await check_exact(
        trial, storage, [Payload({"n": [number], "-": made_up[0]}) for number in NUMBERS[:13]], "a number"
    )
    for number in (*NUMBERS, *made_up):
        which = f"the number {show(number)}"
        job = evolve(trial.job(trial.queue()), command=Payload({"n": number, "deep": [[number]]}))
        await stored_or_refused(trial, storage, job, which)
        if trial.offers(Need.RESULTS):
            await _check_result_or_refused(trial, storage, Payload(number), which)


@rule("R104")
async def what_is_no_number_is_refused(trial: Trial) -> None:
    """NaN and the infinities, wherever they stand in a payload, are refused when it is made."""
    for number in (nan, inf, -inf):
        for data in (number, [number], {"n": number}, {"deep": [[{"n": [1, number]}]]}, [1.0, number, 2.0]):
            trial.check.refuses(
                lambda data=data: trial.values.payload(data),  # type: ignore[misc]
                ValueError,
                f"a payload that holds {number} is refused when it is made",
            )


@frozen
class Invoice:
    """A command with types that JSON has no form for."""

    number: UUID
    total: Decimal
    issued: datetime
    due_in: timedelta
    weight: float
    lines: list[Decimal]


@rule("R104")
async def values_of_the_core_codec_come_back_equal(trial: Trial) -> None:
    """A Decimal, a UUID, a datetime and a timedelta that core's codec wrote are read back as equal values."""
    storage, codec = await trial.open(), ConverterCodec()
    invoices = trial.examples(
        st.builds(
            Invoice,
            number=st.uuids(),
            total=st.decimals(allow_nan=False, allow_infinity=False),
            issued=st.datetimes(timezones=st.just(UTC)),
            due_in=st.timedeltas(),
            weight=st.floats(allow_nan=False, allow_infinity=False),
            lines=st.lists(st.decimals(allow_nan=False, allow_infinity=False), max_size=3),
        ),
        20,
    )
    jobs = [evolve(trial.job(trial.queue()), command=codec.encode(invoice, Invoice)) for invoice in invoices]
    await trial.check.answers(storage.store_jobs(jobs), "what core's codec wrote can be stored")
    for invoice, seen in zip(invoices, await trial.read(storage, *jobs), strict=True):
        trial.check.equal(codec.decode(seen.command, Invoice), invoice, "a command that core's codec wrote and read")


WORDS: Final = (
    *(
        "",
        ".",
        "..",
        "$",
        "a.b",
        ".a",
        "a.",
        "$a",
        "$oid",
        "$ref",
        "$date",
        "$numberLong",
        "$where",
        "_id",
        "__proto__",
    ),
    *("0", "1", "00", "-1", "1.5", "true", "null", "None", "NULL", "undefined", "NaN", "[]", "{}", '{"$oid": "x"}'),
    *("'", '"', "`", "\\", "\\u0000", "\\n", "%", "%s", "%(a)s", "?", ":a", "$1", "@a", "#", "/", "a/b", "~", "*"),
    *("'; DROP TABLE pannier_jobs; --", "' OR '1'='1", "1); --", "/* */", "--", "\\'; --", "{{a}}", "${a}", "{0}"),
    *("\u2028", "\u00e9", "e\u0301", "K", "\u212a", "type", "encoding", "data", "bytes", "json", "__class__", "\x7f"),
    *("{1,2}", "(1,2)", "1e5", "2030-01-01T00:00:00+00:00", "00000000-0000-0000-0000-000000000000", "\\x00", "\\N"),
)


def as_tree(tree: Json) -> Json:
    """Return *tree* under the type of any tree."""
    return tree


@rule("R105")
async def odd_keys_and_words_are_literal(trial: Trial) -> None:
    """Dict keys and strings that an engine might take for its own, as command, progress, result and metadata."""
    storage = await trial.open()
    made_up = trial.examples(TREES, 25)
    trees: list[Json] = [
        *WORDS,
        *[as_tree({word: word}) for word in WORDS],
        *[as_tree([{word: {word: [word]}}]) for word in WORDS],
        dict.fromkeys(WORDS, "all"),
        dict.fromkeys(reversed(WORDS)),
        {"a": {"b": 1}, "a.b": 2, "a.b.c": {"": {"": None}}},
        {"bytes": "YQ==", "encoding": "json"},
        {"$binary": {"base64": "YQ==", "subType": "00"}},
        *made_up,
    ]
    await check_exact(trial, storage, [Payload(tree) for tree in trees], "a payload with odd words")


@rule("R105")
async def odd_metadata_is_literal(trial: Trial) -> None:
    """The same words as names and values of metadata, and in the filters that look for them."""
    storage = await trial.open()
    queue = trial.queue()
    jobs = [trial.job(queue, metadata={word: other}) for word, other in zip(WORDS, reversed(WORDS), strict=True)]
    jobs.append(trial.job(queue, metadata=dict(zip(WORDS, WORDS, strict=True))))
    await trial.check.answers(storage.store_jobs(jobs), "metadata of odd words can be stored")
    for job, seen in zip(jobs, await trial.read(storage, *jobs), strict=True):
        trial.check.equal(dict(seen.metadata), dict(job.metadata), "metadata of odd words")
    if trial.offers(Need.INSPECT):
        for job in jobs:
            wanted = JobFilter(queue_ids=frozenset({queue}), metadata=job.metadata)
            page = await inspector_of(storage).find_jobs(wanted)
            expected = {each.tracking_id for each in jobs if job.metadata.items() <= each.metadata.items()}
            trial.check.counts((each.tracking_id for each in page.jobs), expected, f"jobs with {show(job.metadata)}")
    claimed = await storage.claim_jobs(claim_of(queue, limit=len(jobs)))
    by_id = {job.tracking_id: dict(job.metadata) for job in claimed.jobs}
    trial.check.equal(by_id, {job.tracking_id: dict(job.metadata) for job in jobs}, "metadata, as a claim gives it")
