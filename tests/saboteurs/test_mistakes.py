"""
The mistakes that people make in a storage, each with the saboteur that makes it.

Drawn up before the suite was, from the queues and adapters that others have written: a list to start from. There are
many more saboteurs than mistakes here; none of these may be missing.
"""

import pytest

from pannier_testing.saboteurs.making import Saboteur
from pannier_testing.saboteurs.plugin import collect_saboteurs

SABOTEURS: dict[str, Saboteur] = {saboteur.name: saboteur for saboteur in collect_saboteurs()}

MISTAKES = [
    ("claim: select, await, update without a guard", "R30", "leases-without-a-second-look"),
    ("claim guarded by a lock of each instance only", "R31", "locks-each-instance"),
    ("claim guarded by a lock of this process only", "R32", "locks-threads-only"),
    ("another queue's job where its own is empty", "R23", "helps-out-in-other-queues"),
    ("the part of execute_after below a second cut off", "R20", "cuts-starts-to-seconds"),
    ("execute_after < now", "R19", "starts-too-late"),
    ("now <= expire_on", "R21", "includes-the-expiry"),
    ("LIMIT before eligibility", "R27", "limits-before-it-looks"),
    ("limit + 1", "R24", "gives-one-more"),
    ("last in first out", "R25", "takes-the-last-first"),
    ("ordered by random id", "R25", "orders-by-id"),
    ("priority's sign inverted", "R26", "takes-low-priorities-first"),
    ("attempt not counted where a lapsed lease is taken over", "R38", "keeps-the-attempt"),
    ("the fence of a new claim is the old one", "R34", "keeps-the-fence"),
    ("Succeeded does not check the fence", "R42", "succeeds-under-any-fence"),
    ("renewals do not check the fence", "R41", "renews-for-any-fence"),
    ("Retry does not check the fence", "R43", "retries-under-any-fence"),
    ("progress does not check the fence", "R44", "reports-under-any-fence"),
    ("renewing adds to the old end", "R39", "adds-to-the-old-end"),
    ("a lapsed lease hides its job at its very end", "R37", "hides-at-the-end-of-a-lease"),
    ("leases never end", "R38", "never-lets-leases-lapse"),
    ("reclaiming by a sweep only", "R47", "reclaims-by-sweep-only"),
    ("one renewal keeps a worker's every lease alive", "R47", "renews-all-of-a-worker"),
    ("keys unique across queues", "R12", "shares-keys-between-queues"),
    ("a duplicate overwrites the payload", "R11", "overwrites-the-payload"),
    ("a key checked, then inserted", "R14", "looks-before-it-stores"),
    ("a key freed on completion", "R15", "frees-the-key-on-completion"),
    ("a key that survives the purge", "R16", "keeps-the-key-of-a-purged-job"),
    ("keys without case", "R17", "ignores-the-case-of-keys"),
    ("keys folded to NFC", "R17", "normalises-keys"),
    ("keys cut at 255", "R17", "cuts-keys"),
    ("a missing key deduplicated", "R13", "keeps-one-job-without-a-key"),
    ("a missing key that becomes blank", "R13", "records-a-blank-key"),
    ("a repeated store inserts again", "R7", "inserts-a-second-time"),
    ("a batch keeps what came before the bad job", "R5", "stores-one-after-the-other"),
    ("live references stored", "R3", "keeps-what-it-is-given"),
    ("live references returned", "R3", "gives-what-it-keeps"),
    ("purge deletes pending jobs", "R73", "deletes-what-waits-too-long"),
    ("purge counts from created_at", "R72", "counts-retention-from-creation"),
    ("purge leaves keys behind", "R76", "keeps-keys-of-purged-jobs"),
    ("purge leaves something of each job behind", "R76", "leaves-a-mark-for-each-job"),
    ("purge leaves results behind", "R70", "keeps-results-of-purged-jobs"),
    ("cancel of what succeeded", "R62", "cancels-finished-jobs"),
    ("settle ignores that a running job was cancelled", "R61", "settles-what-was-cancelled"),
    ("settle writes the whole stale row", "R65", "loses-a-cancel-to-an-end"),
    ("a claim in flight gets the job that was cancelled", "R64", "claims-over-a-cancel"),
    ("SUCCEEDED first, its result in another transaction", "R49", "commits-the-result-later"),
    ("a repeated success refused", "R50", "refuses-repeats"),
    ("settling a job that was never claimed", "R51", "settles-what-was-never-claimed"),
    ("a release burns an attempt", "R59", "burns-an-attempt-per-release"),
    ("one unreadable record fails the claim", "R56", "raises-of-one-bad-record"),
    ("errors overwritten", "R54", "remembers-the-last-error-only"),
    ("errors without bound", "R54", "remembers-every-error"),
    ("naive times taken as local", "R80", "takes-naive-times-as-local"),
    ("naive times returned", "R79", "returns-naive-times"),
    ("times of a local zone returned", "R79", "returns-times-of-its-own-zone"),
    ("dependence on TZ", "R82", "keeps-local-times"),
    ("comparing with its own clock", "R83", "claims-by-its-own-clock"),
    ("answered before it is committed", "R85", "writes-behind"),
    ("an older schema is made anew", "R115", "makes-an-older-store-anew"),
    ("opening is not safe from 8 processes", "R114", "creates-without-a-lock"),
    ("texts cut at NUL", "R101", "ends-texts-at-nul"),
    ("NaN to null", "R104", "keeps-nan-as-null"),
    ("large integers to floats", "R104", "writes-big-integers-as-floats"),
    ("an oversize payload cut silently", "R102", "cuts-large-payloads"),
    ("a lock kept by a cancelled claim", "R36", "keeps-the-lock-when-cancelled"),
    ("a lock kept by any cancelled call", "R94", "keeps-its-lock-when-cancelled"),
    ("a connection lost on the path of an exception", "R117", "loses-a-connection-to-each-error"),
    ("close() leaves a task", "R117", "leaves-a-task"),
    ("time.sleep or a synchronous driver in a call", "R92", "waits-on-the-loop"),
    ("paging by OFFSET", "R98", "pages-by-offset"),
    ("listing counts an attempt", "R99", "counts-a-look-as-an-attempt"),
    ("a password in a repr", "R107", "tells-its-password"),
    ("a password in an error's text", "R107", "tells-the-password-in-errors"),
    ("a claim scans and sorts everything in Python", "R119", "scans-every-job"),
    ("the result None reported as no result", "R68", "takes-none-for-no-result"),
    ("an optional field lost", "R1", "loses-the-expiry"),
    ("None read back as something empty", "R1", "reads-empty-for-none"),
    ("dequeue_after dropped where it equals the default", "R2", "starts-when-it-was-made"),
    ("get_job of an unknown id raises KeyError", "R8", "raises-for-unknown-jobs"),
    ("FAILED jobs claimable", "R22", "claims-failed-jobs"),
    ("a worker's live leases given to it again", "R29", "returns-the-leases-of-its-worker"),
    ('"database is locked" surfaces', "R35", "says-that-it-is-locked"),
    ("Retry drops the delay", "R53", "retries-at-once"),
    ("Retry keeps the lease", "R53", "keeps-the-lease-of-a-retry"),
    ("cancelling a scheduled job delays it", "R60", "delays-what-is-cancelled"),
    ("a second cancel raises", "R63", "raises-on-a-second-cancel"),
    ("progress in a dict of the instance", "R69", "keeps-progress-in-the-instance"),
    ("an oversize result: SUCCEEDED without it", "R71", "succeeds-without-an-oversize-result"),
    ("an expired pending job handed out", "R77", "runs-expired-jobs"),
    ("an EXPIRED job loses its payload", "R77", "forgets-the-command-of-an-expired-job"),
    ("purge ignores its queues", "R78", "purges-every-queue"),
    ("requeue keeps the old expiry", "R78", "requeues-with-the-old-expiry"),
    ("requeue keeps the fence", "R78", "requeues-under-the-old-fence"),
    ("job and key in two commits", "R87", "stores-the-key-after-the-job"),
    ("RUNNING and the lease in two commits", "R87", "leases-in-two-steps"),
    ("a second close() raises", "R93", "closes-only-once"),
    ("use after close() reopens", "R93", "opens-itself-again"),
    ('bytes decoded with errors="replace"', "R100", "replaces-bytes-that-are-no-text"),
    ("a recursive encoder", "R103", "encodes-recursively"),
    ("the limit -1 accepted", "R106", "takes-a-negative-limit"),
    ("lease_for 0 accepted", "R106", "leases-for-no-time"),
    ("a lease of fence 0", "R106", "has-a-lease-of-fence-zero"),
    ("a newer version's field makes it fail", "R116", "fails-on-what-it-does-not-know"),
    ("a newer version's field dropped", "R116", "drops-what-it-does-not-know"),
    ("every fence remembered", "R118", "remembers-every-fence"),
    ("settle without an index on the id", "R120", "settles-by-scanning"),
    ("next_due ignores leases", "R121", "names-waiting-jobs-only"),
    ("next_due names an expired job", "R121", "names-expired-jobs"),
    ("next_due always None", "R121", "names-no-next-due"),
    ("next_due ignores jobs passed over", "R121", "forgets-what-it-passed-over"),
    ("one bad batch fails those that share its transaction", "R122", "shares-its-errors"),
    ("a fused settle and claim hands the settled job out", "R122", "hands-out-what-it-settles"),
    ("an unstorable settlement dropped silently", "R123", "drops-what-it-cant-store"),
    ("an unstorable settlement takes its batch along", "R123", "drops-the-batch"),
    ("no MISSED after a reconnect", "R124", "says-nothing-of-a-reconnect"),
    ("lapsed leases behind the whole backlog", "R25", "queues-lapsed-leases-up"),
    ("answers by tracking id alone", "R45", "answers-by-id"),
    ("Release puts the job behind the backlog", "R59", "releases-behind-the-backlog"),
    ("a demand's limit given to each of its names", "R24", "limits-each-name"),
    ("a purge deletes what it has just marked", "R72", "deletes-what-it-has-just-marked"),
    ("a duplicate key aborts the caller's transaction", "R9", "aborts-for-a-duplicate"),
    ("a renewal waits for an open settle_jobs_in", "R39", "waits-for-open-settlements"),
    ("EXPIRED jobs scanned by every claim", "R119", "scans-the-expired"),
]

ODDITIES = [
    ("no order inside a claimed batch", "answers-in-no-order"),
    ("read_clock 30 s off", "has-a-clock-of-its-own"),
    ("a resolution of 1 ms", "counts-in-milliseconds"),
    ("5 ms of latency on every operation", "takes-its-time"),
    ("unknown fields on stored records", "keeps-more-than-it-must"),
    ("no push", "pushes-nothing"),
    ("fewer than asked for under contention", "is-cautious-in-a-crowd"),
    ("no results", "keeps-no-results"),
    ("no inspector", "lists-nothing"),
]


@pytest.mark.parametrize(("mistake", "rule", "name"), MISTAKES, ids=[mistake for mistake, _, _ in MISTAKES])
def test_a_saboteur_makes_each_known_mistake(mistake: str, rule: str, name: str) -> None:
    """The saboteur that makes the mistake is there, and is held to the rule that must catch it."""
    assert name in SABOTEURS, mistake
    assert SABOTEURS[name].breaks == rule


@pytest.mark.parametrize(("oddity", "name"), ODDITIES, ids=[oddity for oddity, _ in ODDITIES])
def test_an_angel_has_each_allowed_oddity(oddity: str, name: str) -> None:
    """The angel that is odd in this way is there."""
    assert name in SABOTEURS, oddity
    assert SABOTEURS[name].breaks is None
