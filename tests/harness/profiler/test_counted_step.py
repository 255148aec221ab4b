"""What one counted step says of its peak: how much, what for, whose, and where."""

from dataclasses import dataclass, replace
from itertools import accumulate

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Kind, Method
from bsrbench.harness.profiler.counted_step import at_peak_metrics, counted_step, packed
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.sidecar import PeakPlace

# One image's gradient of the class token is a slice of the whole sequence's: 16 tokens more.
AROUND_A_SLICE = 16 * 64 * 4
DIVISOR = 4  # by how many labels the loss was divided, as a tensor
SCALARS = 8  # the step's loss and the sum of losses, 4 bytes each, live beside everything
HERE = [methods.usable(name) for name in methods.names() if methods.load(name).made_for("cpu")]
every_method = pytest.mark.parametrize("name", [*HERE, "bsr+int8"])


@pytest.fixture
def count(make_spec, make_six_spec):
    """Return what counts some steps of a method on six blocks and gives back the job too."""

    def run(name, steps=2, load=methods.load, **workload):
        make = make_six_spec if load is methods.load else make_spec
        job, batch = job_and_batch(make(name, **workload), load)
        return job, [counted_step(job, batch) for _ in range(steps)]

    return run


def bytes_of(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@every_method
@pytest.mark.parametrize("changes", [{}, {"micro_batch": 2, "precision": "bf16"}], ids=str)
def test_categories_and_modules_add_up_to_the_peak(name, changes, count):
    """Parameters count in full; the optimizer's state and the batch are there all the time."""
    job, (_, steady) = count(name, **changes)
    by_module = {str(category): 0 for category in Category}
    for kinds in steady.modules.values():
        for category, size in kinds.items():
            by_module[category] += size

    assert steady.peak == sum(steady.categories.values())
    assert steady.categories == by_module
    assert max(steady.timeline.live_bytes) == steady.peak
    assert steady.categories["weights"] == bytes_of(job.model.parameters())
    assert steady.categories["buffers"] == bytes_of(job.model.buffers())
    assert steady.categories["optimizer"] == bytes_of(job.trained())  # SGD's momentum
    assert steady.categories["inputs"] == 4 * 3 * 64 * 64 * 4 + 4 * 8  # fp32 images, int64 labels
    assert steady.left_behind == 0


@pytest.mark.parametrize("name", ["full", "head", "bsr+int8"])
def test_the_peak_s_place_is_a_module_of_the_model_and_an_operator_of_torch(name, count):
    job, (_, steady) = count(name)
    place, line = steady.peak_place, steady.timeline
    namespace, operator, overload = place.operator.split(".")

    assert steady.peak == line.live_bytes[steady.peak_operator]
    assert getattr(getattr(getattr(torch.ops, namespace), operator), overload)
    assert place.module in dict(job.model.named_modules())
    assert place.phase in {"forward", "backward", "optimizer"}
    assert place == PeakPlace(
        phase=line.phase[steady.peak_operator],
        module=line.module[steady.peak_operator],
        operator=line.operator[steady.peak_operator],
    )


@pytest.mark.parametrize("name", ["lora", "checkpoint", "bsr+int8"])
def test_a_steady_step_is_counted_alike_every_time(name, count):
    _, (_, steady, again) = count(name, steps=3)

    assert (steady.peak, steady.modules, steady.timeline) == (
        again.peak,
        again.modules,
        again.timeline,
    )


def test_adamw_holds_two_states_a_trained_parameter_and_a_counter(count):
    """Each of the trained tensors has two moments of its size and a step counter of 4 bytes."""
    job, (_, steady) = count("bsr", optimizer="adamw")
    trained = job.trained()

    assert steady.categories["optimizer"] == 2 * bytes_of(trained) + 4 * len(trained)


def test_the_first_step_peaks_when_the_optimizer_has_made_its_state(count):
    """Weights, gradients and SGD's momentum, the batch, and the sum of losses."""
    job, (first, _) = count("full", steps=2, batch=1)
    weights = bytes_of(job.model.parameters())

    assert first.categories == {
        "weights": weights,
        "gradients": weights + AROUND_A_SLICE,
        "optimizer": weights,
        "inputs": 3 * 64 * 64 * 4 + 8,
        "buffers": 0,
        "kept": 0,
        "saved_activations": 4,
        "temporaries": 0,
    }
    assert first.peak_place.phase == "optimizer"


def test_a_first_step_that_peaks_before_the_optimizer_lacks_its_state(count):
    """A linear probe's peak is in the forward pass; the momentum comes after it."""
    job, (first, steady) = count("head")

    assert first.peak == steady.peak - bytes_of(job.trained())


@pytest.mark.parametrize("changes", [{}, {"micro_batch": 2}], ids=str)
def test_every_gradient_is_found(changes, count):
    """When the optimizer begins, weights, their gradients, the batch and the loss are all.

    The last operator before adds the loss's share to the sum of losses: three scalars.
    """
    job, (first, _) = count("full", **changes)
    begins = first.timeline.phase.index("optimizer") - 1
    weights, batch = bytes_of(job.model.parameters()), first.categories["inputs"]

    assert first.timeline.live_bytes[begins] == 2 * weights + batch + 3 * 4
    assert first.categories["gradients"] == weights


def test_gradients_that_accumulate_are_gradients_at_a_peak_in_the_backward_pass(count):
    """All of the micro-batches before are there, and what is added to one is a temporary."""
    job, (_, steady) = count("full", micro_batch=2)

    assert steady.peak_place.phase == "backward"
    assert steady.categories["gradients"] == bytes_of(job.trained())


def test_a_quarter_of_the_images_a_forward_pass_holds_a_quarter_of_the_activations(count):
    """But for the loss, its divisor and the sum of losses, which are one number each."""
    whole, parts = (count("full", micro_batch=m)[1][1].held_after_forward for m in (None, 1))

    assert whole - DIVISOR - SCALARS == 4 * (parts - DIVISOR - SCALARS)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_optimizer_in_the_backward_pass_frees_gradients_before_they_pile_up(optimizer, count):
    """With one image the peak lies where all gradients are; stepped at once, few are alive."""
    job, (_, after) = count("full", batch=1, optimizer=optimizer)
    _, (_, within) = count("full", batch=1, optimizer=optimizer, optimizer_in_backward=True)
    states = 1 if optimizer == "sgd" else 2
    counters = 0 if optimizer == "sgd" else 4 * len(job.trained())

    assert after.categories["gradients"] >= 0.9 * bytes_of(job.trained())
    assert 0 < within.categories["gradients"] < after.categories["gradients"] / 2
    assert within.peak < after.peak
    assert within.categories["optimizer"] == states * bytes_of(job.trained()) + counters
    assert within.peak == sum(within.categories.values())
    assert within.left_behind == 0


def test_a_compiled_step_is_not_counted(make_spec):
    """Under a meter that watches operators it would run eagerly, and be another step."""
    job, batch = job_and_batch(make_spec(), methods.load)
    compiled = make_spec(compiled_step=True)

    with pytest.raises(ValueError, match="it would run eagerly"):
        counted_step(replace(job, spec=compiled), batch)


def test_methods_hold_what_their_cards_say(count):
    """A probe keeps the head's input and the loss's, checkpointing a block's input a block.

    Head: 4 images x 64 features, 4 x 5 log-probabilities, the loss's divisor, two scalars; and
    the class tokens the features were taken from, 4 x 17 x 64, which they are a view of.
    """
    held = {name: count(name)[1][1].held_after_forward for name in ("full", "checkpoint", "head")}

    assert held["head"] == 4 * (4 * 17 * 64 + 4 * 5) + DIVISOR + SCALARS
    assert held["checkpoint"] < held["full"] / 4
    assert count("head")[1][1].categories["saved_activations"] <= SCALARS


def test_autocast_holds_half_precision_beside_whole_weights(count):
    job, (_, half) = count("full", precision="bf16", batch=16)
    _, (_, whole) = count("full", batch=16)

    assert half.categories["weights"] == bytes_of(job.model.parameters())
    assert half.held_after_forward < whole.held_after_forward
    assert any(operator == "aten._to_copy.default" for operator in half.timeline.operator)


@dataclass(frozen=True)
class Two(Method):
    """Replaces the model by two layers of which all is known."""

    source = "a test"
    exact_forward = False
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.GELU(), nn.Linear(8, 5, bias=False)
        )


def test_what_two_layers_hold_after_the_forward_pass_is_known(count):
    """GELU keeps its input, the last layer its own, 4 x 8 each; the loss 4 x 5 and a divisor."""
    _, (_, steady) = count("two", load=lambda _: Two(), image_size=16)

    assert steady.held_after_forward == 4 * (4 * 8 + 4 * 8 + 4 * 5) + DIVISOR + SCALARS


def test_the_modules_of_two_layers_own_what_they_made(count):
    """At the end of the first layer's backward pass: its weight's gradient is the largest."""
    _, (_, steady) = count("two", load=lambda _: Two(), image_size=16)
    weight, bias = 4 * 8 * 768, 4 * 8

    assert steady.modules["1"]["weights"] == weight + bias
    assert steady.modules["1"]["optimizer"] == weight + bias
    assert steady.modules["1"]["gradients"] == weight + bias
    assert steady.modules["3"] == dict.fromkeys(("weights", "optimizer", "gradients"), 4 * 5 * 8)
    assert steady.modules["2"] == {"temporaries": 4 * 4 * 8}  # the gradient on its way down


def test_a_storage_that_is_resized_counts_what_it_has_now():
    """Grows from 1000 to 3000 numbers and shrinks to nothing; then 500 more are made."""
    with LiveBytes() as live:
        x = torch.empty(1000)
        x.resize_(3000)
        grown = live.now
        x.untyped_storage().resize_(0)
        x.detach()  # the next operator that sees it
        shrunk = live.now
        y = torch.empty(500)

        assert (grown, shrunk, live.now, live.peak) == (12000, 0, 2000, 12000)
    del y


def test_a_resized_storage_keeps_its_category():
    x = torch.empty(1000)
    with LiveBytes() as live:
        live.watch([x], Category.GRADIENTS, "layer")
        x.resize_(3000)

        assert [kinds for kinds in live.at_peak().values() if kinds] == [
            {Category.GRADIENTS: 12000}
        ]


def test_a_grain_rounds_every_storage_up():
    """Storages of 4, 512 and 516 bytes take blocks of 512, 512 and 1024."""
    with LiveBytes(grain=512) as live:
        kept = [torch.empty(count) for count in (1, 128, 129)]

    assert live.peak == 512 + 512 + 1024
    assert len(kept) == 3


def test_a_packed_timeline_has_every_change_of_level_and_its_place(count):
    _, (_, steady) = count("bsr+int8")
    line, small = steady.timeline, packed(steady.timeline)
    entries = zip(
        small.index,
        small.live_bytes,
        [small.operators[number] for number in small.operator],
        [small.phases[number] for number in small.phase],
        [small.modules[number] for number in small.module],
        strict=True,
    )
    levels = dict(zip(small.index, small.live_bytes, strict=True))
    unpacked = accumulate(
        range(1, len(line.live_bytes)), lambda level, i: levels.get(i, level), initial=levels[0]
    )

    assert list(unpacked) == line.live_bytes
    assert len(small.index) < len(line.live_bytes)
    assert all(
        (size, operator, phase, module)
        == (line.live_bytes[i], line.operator[i], line.phase[i], line.module[i])
        for i, size, operator, phase, module in entries
    )
    assert small.phases == ("forward", "backward", "optimizer")


def test_the_split_becomes_metrics_of_every_category(count):
    _, (_, steady) = count("head")
    metrics = at_peak_metrics(steady)

    assert set(metrics) == {f"{category}_at_peak_bytes" for category in Category}
    assert sum(metrics.values()) == steady.peak
