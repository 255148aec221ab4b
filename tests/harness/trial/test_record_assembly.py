"""What becomes of a trial's passes: one outcome, and each note once."""

import pytest

from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from tests.trial_records import ran_in

SLOWED = Note(NoteKind.TIMING, "the device is slowed down")


@pytest.fixture
def assemble(make_spec):
    """Return what puts passes together into a record."""

    def made(**passes):
        return make_record("key", make_spec(), passes, ran_in())[0]

    return made


def test_the_outcome_is_that_of_the_first_pass_that_did_not_complete(assemble):
    record = assemble(
        clock=PassResult(reading=PassReadings({})),
        memory=PassResult(Status.TIMEOUT, "late"),
        flops=PassResult(Status.CRASHED, "broken"),
    )

    assert record.outcome.status is Status.TIMEOUT
    assert record.outcome.reason == "memory pass: late"


def test_a_note_of_several_passes_is_said_once(assemble):
    doubt = Note(NoteKind.MEMORY, "a note")
    noted = PassResult(reading=PassReadings({}, notes=(SLOWED, doubt)))
    other = PassResult(reading=PassReadings({}, notes=(SLOWED,)))

    assert assemble(clock=noted, memory=other).notes == (SLOWED, doubt)
