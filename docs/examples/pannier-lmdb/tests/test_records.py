"""What a newer version of this package may count on."""

import json
from datetime import UTC, datetime
from uuid import UUID

from pannier.storage import JobRecord, Payload, transitions

from pannier_lmdb import records

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
JOB = JobRecord(
    tracking_id=UUID(int=7),
    queue_id="mail",
    command=Payload({"to": "you"}),
    execute_after=NOON,
    expire_on=None,
    created_at=NOON,
)


def test_a_field_of_a_newer_version_outlives_a_change_by_this_one() -> None:
    """While both versions work on one store, neither loses what the other wrote."""
    newer = json.dumps({**json.loads(records.dump_record(JOB)), "colour": "red"}).encode()

    _, cancelled = transitions.cancel(records.load_record(newer), now=NOON)
    written = json.loads(records.dump_record(cancelled, over=newer))

    assert (written["status"], written["colour"]) == ("cancelled", "red")
