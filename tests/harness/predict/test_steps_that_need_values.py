"""A step that depends on the data is not predicted, and the reason says what to set."""

import pytest

from bsrbench import methods
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.batch_search import predicted_search
from bsrbench.harness.predict.estimate import estimate_pass, predict
from bsrbench.harness.predict.trial_costs import step_costs
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.records.remarks import AbsenceKind

INPUTS = (
    "the ranks follow from the first batch (explained = 0.8), and a prediction has no data: set "
    "ranks, the ranks of images, tokens and channels"
)
WEIGHTS = (
    "the ranks of the weights follow from their numbers (explained = 0.8), and a prediction has no "
    "weights: set rank"
)
CASES = [("asi", {}, INPUTS), ("wasi", {}, WEIGHTS), ("wasi", {"rank": 4}, INPUTS)]


@pytest.mark.parametrize(("name", "options", "why"), CASES)
def test_an_estimate_lacks_the_peak_and_says_why(name, options, why, make_six_spec):
    reading = estimate_pass(make_six_spec(name, options=options), methods.load)
    absence = reading.missing["peak_estimated_bytes"]

    assert (absence.kind, absence.text) == (AbsenceKind.UNREADABLE, why)
    assert "peak_estimated_bytes" not in reading.measurements


def test_iterations_that_only_training_has_are_no_disagreement_of_two_counters(make_six_spec):
    spec = make_six_spec("asi", options={"ranks": [2, 4, 8]})
    predicted, measured = predict(spec, methods.load), flop_pass(spec, methods.load)

    assert predicted.measurements["forward_flop"] > 2 * predicted.measurements["forward_macs"]
    assert not [note for note in (*predicted.notes, *measured.notes) if "disagree" in note.text]


@pytest.mark.parametrize(("name", "options", "why"), CASES)
def test_the_plan_of_a_run_has_the_reason_in_place_of_a_cost(name, options, why, make_six_spec):
    (cost,) = step_costs([make_six_spec(name, options=options)], methods.load)

    assert cost.reason == why


@pytest.mark.parametrize(("name", "options", "why"), CASES)
def test_the_largest_batch_is_not_searched(name, options, why, make_six_spec):
    with pytest.raises(Unsupported) as refused:
        predicted_search(make_six_spec(name, options=options), 1 << 30, methods.load)

    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("name", "options"), [("asi", {"ranks": [2, 4, 8]}), ("wasi", {"rank": 4, "ranks": [2, 4, 8]})]
)
def test_with_ranks_the_largest_batch_is_found(name, options, make_six_spec):
    """A batch of one image has fewer images than the rank; it is tried first."""
    spec = make_six_spec(name, options=options)
    found = predicted_search(spec, 12 << 20, methods.load)

    assert found.batch is not None
    assert found.predicted_bytes <= 12 << 20 < found.next_bytes
