"""What becomes of a trial's passes: one outcome, and notes that belong to its numbers."""

import pytest

from harness.assembly import TIMING, make_record, stored_result
from harness.record import Status
from harness.trial import PassResult

EMPTY = {"measurements": {}, "missing": {}, "notes": [], "detail": {}}


@pytest.fixture
def assemble(make_spec):
    """Return what puts passes together into a record."""

    def made(**passes):
        return make_record("key", make_spec(), passes, {"machine_id": "m"})[0]

    return made


def test_the_outcome_is_that_of_the_first_pass_that_did_not_complete(assemble):
    record = assemble(
        clock=PassResult(reading=EMPTY),
        memory=PassResult(Status.TIMEOUT, "late"),
        flops=PassResult(Status.CRASHED, "broken"),
    )

    assert record.outcome.status is Status.TIMEOUT
    assert record.outcome.reason == "memory pass: late"


def test_notes_about_times_go_with_the_times_they_are_about(assemble):
    """A record that is timed again keeps what was noted about its memory, and that alone."""
    notes = [f"{TIMING}3 of 5 visits were disturbed", "counted peak differs"]
    before = assemble(memory=PassResult(reading=EMPTY | {"notes": notes}))
    after = assemble(clock=PassResult(reading=EMPTY), stored=stored_result(before, {}))

    assert before.notes == notes
    assert after.notes == ["counted peak differs"]
