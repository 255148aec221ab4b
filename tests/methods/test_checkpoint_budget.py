"""checkpoint recomputes the number of blocks that is set, or the fewest that meet a budget."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.batch_search import predicted_search
from bsrbench.harness.predict.memory_budget import fitting, within_budget
from bsrbench.harness.predict.step_cost import step_cost
from bsrbench.harness.predict.trial_costs import step_costs
from bsrbench.harness.trial.trial_passes import perform
from bsrbench.methods.checkpoint import Checkpointed
from bsrbench.methods.parts.extend_module import extend

DEPTH = 6  # blocks of test_vit
ESTIMATE = ("estimate", "--model", "test_vit", "--image-size", 64, "--batch", 16)


@pytest.fixture
def spec_of(make_spec):
    """Return a maker of trials; bsr has blocks of a model of six."""

    def make(device="cpu", base="", **options):
        name, settings = "checkpoint", options
        if base:
            own = {"trained_blocks": [1, 3, 5], "drop_at": [1, 3]} if base == "bsr" else {}
            name, settings = f"{base}+checkpoint", {base: own, "checkpoint": options}
        return make_spec(name, options=settings, device=device, batch=16, optimizer="sgd")

    return make


def peaks_of(spec_of, **which):
    """Return the predicted peak with each number of recomputed blocks, from 0 to all."""
    return [
        step_cost(spec_of(blocks=count, **which), methods.load).limiting_bytes()
        for count in range(DEPTH + 1)
    ]


def chosen_blocks(spec):
    """Return the number of blocks that is recomputed to meet the budget of a trial."""
    return fitting(spec, methods.load)(spec.method, **spec.options).environment("cpu")[
        "recomputed_blocks"
    ]


@pytest.mark.parametrize("base", ["", "lora", "bsr"])
def test_the_fewest_blocks_that_meet_the_budget_are_recomputed(base, spec_of):
    """Predicting every number is the slow way; each peak is a budget, and one byte less."""
    peaks = peaks_of(spec_of, base=base)
    for limit in (peaks[0], peaks[0] - 1, peaks[3]):
        expected = next(n for n, peak in enumerate(peaks) if peak <= limit)

        assert expected == chosen_blocks(spec_of(budget=f"{limit}B", base=base))


def test_on_a_gpu_the_chosen_number_meets_the_budget_and_one_less_does_not(spec_of):
    """The allocator's peak can rise with another block, so still fewer blocks may meet it."""
    peaks = peaks_of(spec_of, device="cuda")
    for limit in (peaks[0] - 1, peaks[2], peaks[4]):
        blocks = chosen_blocks(spec_of(budget=f"{limit}B", device="cuda"))

        assert peaks[blocks] <= limit < peaks[blocks - 1]


def test_a_number_in_the_middle_is_found_if_all_blocks_do_not_fit():
    """Made-up peaks that rise by a byte at the end."""
    peaks = [9, 7, 5, 6, 6]
    method = methods.load("checkpoint", budget="5B")

    assert method.within(lambda part: peaks[part.blocks], lambda: 4).blocks == 2


@pytest.mark.parametrize("blocks", [0, 1, 4])
def test_the_counted_peak_is_within_the_budget_and_above_it_with_one_block_less(blocks, spec_of):
    """The memory pass counts a real step."""
    peaks = peaks_of(spec_of)
    limit = peaks[blocks]
    result = InlineLauncher(methods.load).perform("memory", spec_of(budget=f"{limit}B"))

    assert result.reason == ""
    assert result.method == {"recomputed_blocks": blocks}
    assert (
        result.reading.measurements["peak_counted_bytes"]
        <= limit
        < min(peaks[:blocks], default=limit + 1)
    )


def test_the_first_blocks_need_less_memory_than_the_last_ones(spec_of):
    """A last block is recomputed while all blocks below are still stored whole."""

    class Last(methods.find("checkpoint")):
        def prepare(self, model):
            for block in model.blocks[-3:]:
                extend(block, Checkpointed)
            return model

    first = step_cost(spec_of(blocks=3), methods.load).peak_bytes
    last = step_cost(spec_of(), lambda _: Last()).peak_bytes

    assert first < last


def gradients(model, batch):
    """Return the gradients of all parameters after one backward pass."""
    images, labels = batch
    cross_entropy(model(images), labels).backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("blocks", [0, 3, 12])
def test_gradients_are_those_of_full_bit_for_bit(blocks, make_vit, batch):
    expected = gradients(make_vit(), batch)
    found = gradients(methods.load("checkpoint", blocks=blocks).prepare(make_vit()), batch)

    assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize("blocks", [0, 1, 12])
def test_the_first_blocks_run_again(blocks, make_vit, batch):
    model = methods.load("checkpoint", blocks=blocks).prepare(make_vit())
    runs = []
    for index, block in enumerate(model.blocks):
        block.mlp.fc1.register_forward_pre_hook(lambda *_, index=index: runs.append(index))
    gradients(model, batch)

    assert [1 + (index < blocks) for index in range(12)] == [runs.count(i) for i in range(12)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": -1}, "blocks -1 must be at least 0"),
        ({"budget": "much"}, "budget 'much': expected a size like 512MiB, 2GiB or 4GB"),
        ({"budget": "0GiB"}, "budget '0GiB': expected a size"),
        ({"blocks": 2, "budget": "1GiB"}, "blocks 2 and budget '1GiB' are both set"),
    ],
)
def test_options_that_say_nothing_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        methods.load("checkpoint", **options)


def test_more_blocks_than_the_model_has_are_unsupported(make_vit):
    with pytest.raises(Unsupported, match="blocks = 13, but the model has only 12 blocks"):
        methods.load("checkpoint", blocks=13).prepare(make_vit())


def test_a_budget_that_nothing_meets_is_the_outcome_of_a_trial(spec_of):
    """The message has the smallest predicted peak; a prediction of the cost has the reason."""
    spec = spec_of(budget="1MiB")
    least = f"1,048,576 bytes, but the smallest predicted peak is {min(peaks_of(spec_of)):,} bytes"
    result = perform("memory", spec, None, methods.load)
    (cost,) = step_costs([spec], methods.load)

    assert result.status == "unsupported"
    assert least in result.reason
    assert least in cost.reason


def test_the_predicted_cost_of_a_trial_is_that_of_the_chosen_blocks(spec_of):
    limit = peaks_of(spec_of)[2]
    costs = step_costs([spec_of(budget=f"{limit}B"), spec_of(blocks=2)], methods.load)

    assert costs[0] == costs[1]


def test_a_method_without_a_budget_is_loaded_as_before(spec_of):
    def refuse(*_):
        raise AssertionError("nothing is to be predicted")

    for name in ("full", "checkpoint", "bsr+checkpoint"):
        method = methods.load(name)

        assert method.within(refuse, refuse) is method
    assert fitting(spec_of(), methods.load) is methods.load


def test_a_part_s_budget_is_for_the_whole_composition():
    """The made-up peak depends on the number of parts: checkpoint alone would not need a byte."""
    method = methods.load("bsr+checkpoint", checkpoint={"budget": "5B"})
    peaks = [9, 7, 5, 4, 4]

    def peak(setting):
        parts = getattr(setting, "parts", ())
        return peaks[parts[1].blocks] if parts else 0

    assert method.within(peak, lambda: 4).parts[1].blocks == 2


def test_a_composition_keeps_its_other_parts(spec_of):
    spec = spec_of(budget="1GiB", base="bsr")
    loaded = methods.load(spec.method, **spec.options)
    chosen = within_budget(spec, loaded)

    assert chosen.parts == (loaded.parts[0], methods.load("checkpoint", blocks=0))


def test_a_side_network_has_as_many_blocks_as_it_stores(make_six_spec):
    """The ladder drops the side blocks 1 and 4 here, so four are all that can be recomputed."""
    options = {"ladder": {"skip": [1, 4]}, "checkpoint": {"budget": "1kB"}}
    spec = make_six_spec("ladder+checkpoint", options=options)

    with pytest.raises(Unsupported, match="of 4 blocks recomputed"):
        chosen_blocks(spec)


def test_the_largest_batch_is_not_searched_with_a_budget(spec_of):
    with pytest.raises(Unsupported, match="leave out the budget"):
        predicted_search(spec_of(budget="1GiB"), 2**30, methods.load)


def test_estimate_says_how_many_blocks_it_chose(typed):
    """A size needs no quotes; the whole step needs a hundredth of it."""
    code, printed = typed(*ESTIMATE, "--method", "checkpoint", "--option", "budget=1GiB")

    assert code == 0
    assert "note: chosen for the budget, recomputed_blocks = 0" in printed
