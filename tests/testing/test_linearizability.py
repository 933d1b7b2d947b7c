"""The search for an order that explains simultaneous calls."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from pannier_testing.builders import MINUTE, T0, new_job
from pannier_testing.linearizability import Call, explain
from pannier_testing.reference.model import Model
from pannier_testing.scenes import Act

GRID = timedelta(microseconds=1)
JOB = new_job(UUID(int=1))
LOOK = Act("get_job", {"tracking_id": JOB.tracking_id})
ENDS = (T0, T0 + MINUTE)


def cancel(now: datetime) -> Act:
    return Act("cancel_job", {"tracking_id": JOB.tracking_id, "now": now})


@pytest.mark.parametrize("order", [ENDS, ENDS[::-1]])
@pytest.mark.parametrize("began", [ENDS, ENDS[::-1]])
def test_the_order_is_found_whichever_it_was(order: tuple[datetime, ...], began: tuple[datetime, ...]) -> None:
    """Two cancels at once leave two states that differ in nothing but the end of the job."""
    model = Model(GRID)
    model.store_one(JOB)
    answers = {now: cancel(now).on_model(model) for now in order}
    calls = [Call(cancel(now), answers[now], began=number, ended=5) for number, now in enumerate(began)]
    look = Call(LOOK, LOOK.on_model(model), began=6, ended=7)

    assert explain([JOB], [*calls, look], GRID)


def test_no_order_is_found_for_an_answer_that_none_gives() -> None:
    """A job that was cancelled is read as it was."""
    model = Model(GRID)
    model.store_one(JOB)
    before = LOOK.on_model(model)
    cancelled = Call(cancel(T0), cancel(T0).on_model(model), began=0, ended=1)

    assert not explain([JOB], [cancelled, Call(LOOK, before, began=2, ended=3)], GRID)
    assert explain([JOB], [cancelled, Call(LOOK, before, began=0, ended=3)], GRID)
