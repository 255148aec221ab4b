"""Predictions of a search: what they hold, and when they are made again."""

import pytest

from bsrbench import methods
from bsrbench.harness.cli.search import _what_decides
from bsrbench.harness.errors import BadInput
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.predict.step_cost import StepCost, step_cost
from bsrbench.harness.search.candidate_costs import predict_all, refusals, require_one_that_fits
from bsrbench.harness.search.search_question import SearchQuestion
from tests.harness.search.made_up_world import RATES, RECIPE, make_bsr_space


@pytest.mark.parametrize("micro_batch", [None, 4, 3, 1])  # of eight images
@pytest.mark.parametrize("name", ["full", "bsr", "bsr+checkpoint", "bsr+int8"])
def test_two_micro_batches_tell_what_all_of_them_take(make_six_spec, name, micro_batch):
    """Bytes and FLOPs are those of the estimate, which runs every micro-batch."""
    spec = make_six_spec(name, batch=8, micro_batch=micro_batch, optimizer="adamw")
    expected = predict(spec, methods.load).measurements

    found = step_cost(spec, methods.load)

    assert found.peak_bytes == expected["peak_estimated_bytes"]
    assert found.step_flop == expected["step_flop"]
    assert found.trained_parameters == expected["trained_parameters"]


def test_predictions_are_made_in_processes_and_refusals_keep_their_reason(
    launcher, make_spec, make_six_spec
):
    """BSR's default blocks are those of twelve, and this model has six."""
    good, bad = make_six_spec("bsr"), make_spec("bsr")

    found = launcher.costs([good, bad])

    assert found[0] == step_cost(good, methods.load)
    assert "the model has 6, so set trained_blocks" in found[1].reason


def predicted(space, world, path, source=lambda _: "s", asked=None):
    def ask(specs):
        if asked is not None:
            asked.extend(specs)
        return [world.cost(spec) for spec in specs]

    return predict_all(space.candidates, ask, source, path, jobs=2, tell=lambda *_: None)


def test_a_prediction_is_made_once(world, tmp_path):
    space, path, asked = make_bsr_space(), tmp_path / "costs.json", []
    first = predicted(space, world, path)

    again = predicted(space, world, path, asked=asked)

    assert again == first
    assert asked == []


@pytest.mark.parametrize("spoil", ["source", "file"])
def test_what_another_source_said_or_a_broken_file_is_predicted_again(world, tmp_path, spoil):
    space, path, asked = make_bsr_space(companions=()), tmp_path / "costs.json", []
    predicted(space, world, path)
    if spoil == "file":
        path.write_text("{ broken", encoding="utf-8")

    predicted(
        space, world, path, (lambda _: "new") if spoil == "source" else (lambda _: "s"), asked
    )

    assert len(asked) == len(space.candidates)


def test_a_budget_that_nothing_fits_names_the_smallest(world):
    """One late block in micro-batches with a companion: 100 + (50 + 20) // 2 // 4 bytes."""
    space = make_bsr_space()
    costs = {c.row_id: world.cost(c.spec) for c in space.candidates}
    goal = SearchQuestion(RECIPE, RATES, (0,), memory_bytes=107, first=4)

    with pytest.raises(BadInput, match=r"no candidate fits in 107 bytes.* needs 108 \(bsr\+"):
        require_one_that_fits(space.candidates, costs, goal)


def test_candidates_that_cannot_be_are_counted_with_their_reason(world):
    """Two methods that drop tokens are no pair; the search goes on without."""
    space = make_bsr_space(companions=("evit",))
    costs = {
        c.row_id: StepCost(reason="no pair") if c.companion else world.cost(c.spec)
        for c in space.candidates
    }

    assert refusals(costs.values()) == ["350 of 700 candidates cannot be predicted: no pair"]


class Settled:
    """A launcher that has settings and nothing else."""

    def __init__(self, **settings):
        self.found = settings

    def settings(self, device):
        """Return them."""
        return self.found


def test_a_prediction_made_under_other_settings_is_made_again(make_spec):
    """Which operators run decides what they keep and compute, over fake tensors, too."""
    fused, unfused = (
        _what_decides(Settled(TIMM_FUSED_ATTN=value), make_spec("bsr"))("bsr") for value in "10"
    )

    assert fused == _what_decides(Settled(TIMM_FUSED_ATTN="1"), make_spec("bsr"))("bsr")
    assert fused != unfused
    assert fused.split("-")[0] == methods.fingerprint("bsr")
