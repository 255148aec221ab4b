"""What a process answers: frozen, checked as it is made, and the same after its JSON."""

import pytest

from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import (
    Answer,
    CheckResult,
    PassResult,
    SettingsResult,
    decoded,
    encoded,
    plain,
    read_pass,
)

ANSWERS = [
    Answer(Status.CRASHED, "broken", bad_input=True),
    CheckResult(images={"train": 3}),
    SettingsResult(settings={"a": "1"}),
    PassResult(Status.TIMEOUT, "late", start_seconds=0.5),
    PassResult(reading=PassReadings({"step_seconds": [1.0]}), device={"device": "cpu"}),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_is_the_same_after_its_json(answer):
    assert decoded(type(answer), encoded(answer)) == answer


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_never_changes(answer):
    with pytest.raises(AttributeError, match="immutable"):
        answer.status = Status.COMPLETED


def test_a_staged_result_is_the_same():
    assert read_pass(plain(ANSWERS[-1])) == ANSWERS[-1]


def test_a_failure_is_an_answer_of_every_kind():
    line = encoded(ANSWERS[0])

    for kind in (CheckResult, SettingsResult, PassResult):
        assert decoded(kind, line) == kind(Status.CRASHED, "broken", bad_input=True)


def test_what_completed_has_a_reading():
    with pytest.raises(ValueError, match="it completed but has no reading"):
        PassResult()


@pytest.mark.parametrize(
    ("measured", "fault"),
    [
        ({"speed": 1}, "unknown metric 'speed'"),
        ({"step_flop": 2**63}, "step_flop is a whole number of 64 bits"),
        ({"step_seconds": [float("nan")]}, "step_seconds.0 is nan"),
    ],
)
def test_what_no_record_can_hold_is_no_result(measured, fault):
    with pytest.raises(ValueError, match=fault):
        PassResult(reading=PassReadings(measured))


def test_text_that_acts_on_a_terminal_is_made_visible():
    """A half of a surrogate pair has no bytes, and would be no JSON."""
    line = encoded(Answer(Status.CRASHED, "\x1b[2J\ud800"))

    assert decoded(Answer, line).reason == r"\x1b[2J\ud800"
