"""The meters around a step of one's own agree with those around the program's."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.optim.swa_utils import AveragedModel

from bsrbench import methods, profile
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.training.compiled_forward import runs_compiled


def bytes_of(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def same(found, other):
    """Compare what does not depend on luck: all but the times."""
    return replace(found, step_seconds=()) == replace(other, step_seconds=())


def test_categories_add_up_and_known_ones_are_exact(own, batch):
    """Weights, gradients and momentum are as many bytes each."""
    model, optimizer, step = own
    found = profile(model, step, optimizer)
    weights = bytes_of(model.parameters())

    assert sum(found.at_peak_bytes.values()) == found.peak_counted_bytes
    assert found.at_peak_bytes["weights"] == weights
    assert found.at_peak_bytes["optimizer"] == weights
    assert found.at_peak_bytes["inputs"] == bytes_of(batch)
    assert found.at_peak_bytes["kept"] == 0
    assert found.held_after_forward_bytes > 0
    assert any(name.startswith("blocks.1.") for name in found.by_module_bytes)
    assert len(found.step_seconds) == 5
    assert found.notes == ()


# The share of the loss and its gradient, a number each: a trial says that a backward pass begins
# before it makes them, and autograd begins after.
BETWEEN_PASSES = 2 * 4


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_trial_s_step_has_the_numbers_of_the_trial(micro_batch, optimizer, make_spec):
    """A whole step, and one that accumulates gradients over two passes."""
    spec = make_spec(micro_batch=micro_batch, optimizer=optimizer)
    job, (images, labels) = job_and_batch(spec, methods.load)
    size = micro_batch or len(labels)

    def step():
        total = torch.zeros(())
        for part, targets in zip(images.split(size), labels.split(size), strict=True):
            loss = cross_entropy(job.model(part), targets)
            share = len(targets) / len(labels)
            (loss * share).backward()
            total += loss.detach() * share
            del loss
        job.optimizers[0].step()
        job.optimizers[0].zero_grad()

    found = profile(job.model, step)
    steady = counted_step(job, (images, labels))
    read = flop_pass(spec, methods.load).measurements

    steady.categories["saved_activations"] += BETWEEN_PASSES
    steady.categories["temporaries"] -= BETWEEN_PASSES
    assert found.at_peak_bytes == steady.categories
    assert found.peak_counted_bytes == steady.peak
    assert found.held_after_forward_bytes == steady.held_after_forward + BETWEEN_PASSES
    assert (found.forward_flop, found.step_flop) == (read["forward_flop"], read["step_flop"])


def test_an_optimizer_that_is_not_named_is_found(own):
    model, optimizer, step = own

    assert same(profile(model, step, repeats=1), profile(model, step, optimizer, repeats=1))


def test_several_passes_are_forward_passes_each(own, batch):
    """Of four micro-batches the work is that of the whole batch, and a quarter is held."""
    model, optimizer, step = own

    def in_parts():
        optimizer.zero_grad()
        for images, labels in zip(batch[0].split(4), batch[1].split(4), strict=True):
            (cross_entropy(model(images), labels) / 4).backward()
        optimizer.step()

    whole, parts = profile(model, step, repeats=1), profile(model, in_parts, repeats=1)

    assert parts.forward_flop == whole.forward_flop
    assert parts.step_flop == whole.step_flop
    assert parts.held_after_forward_bytes == pytest.approx(
        whole.held_after_forward_bytes / 4, rel=0.01
    )


def test_an_optimizer_s_products_are_no_forward_pass(own, batch):
    """A step like Muon's multiplies matrices of 32 x 32: 2 x 32 ^ 3 FLOP in each of 2 blocks."""

    class Multiplies(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.shape == (32, 32):
                        parameter.grad @ parameter.grad
            return super().step(closure)

    model, _, step = own
    plain = profile(model, step, repeats=1)
    optimizer = Multiplies(model.parameters(), lr=1e-3, momentum=0.9)

    def multiplying():
        optimizer.zero_grad()
        cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    found = profile(model, multiplying, repeats=1)

    assert found.forward_flop == plain.forward_flop
    assert found.step_flop - plain.step_flop == 2 * 2 * 32**3


def test_an_optimizer_may_call_the_step_itself(own, batch):
    """LBFGS runs a closure once where it may iterate once: forward and backward are as ever."""
    model, _, step = own
    plain = profile(model, step, repeats=1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1, history_size=2)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    found = profile(model, lambda: optimizer.step(closure), repeats=1)

    assert found.forward_flop == plain.forward_flop
    assert found.held_after_forward_bytes == plain.held_after_forward_bytes
    assert found.at_peak_bytes["optimizer"] > bytes_of(model.parameters())  # its last direction


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_evaluation_has_flops_and_bytes_in_every_mode(mode, own, batch):
    """Those of the forward pass of training, and no backward pass."""
    model, _, step = own
    training = profile(model, step, repeats=1)

    def evaluate():
        with mode():
            model.eval()(batch[0])

    found, watched = profile(model, evaluate, repeats=1), profile(model, evaluate, repeats=1)

    assert found.forward_flop == found.step_flop == training.forward_flop
    assert found.held_after_forward_bytes == 0
    assert found.at_peak_bytes["weights"] == bytes_of(model.parameters())
    assert same(found, watched)


class AttendsExplicitly(nn.Module):
    """Attention of 512 rows of 4 numbers whose matrix lies inside one operator of torch's."""

    def forward(self, x):
        with sdpa_kernel(SDPBackend.MATH):
            return scaled_dot_product_attention(x, x, x)


def test_inference_mode_needs_as_many_bytes_as_no_grad():
    """Operators that are made of others are taken apart: what lies between is seen."""
    model, x, found = AttendsExplicitly(), torch.ones(1, 1, 512, 4), []
    for mode in (torch.no_grad, torch.inference_mode):

        def evaluate(mode=mode):
            with mode():
                model(x)

        found.append(profile(model, evaluate, repeats=1))

    assert same(*found)
    assert found[0].peak_counted_bytes > 512 * 512 * 4
    assert found[0].step_flop == 2 * 2 * 512 * 512 * 4


def test_another_model_in_the_step_counts_with_its_weights(own, make_vit, batch):
    """A teacher's forward pass is a second one, and its weights are weights."""
    model, optimizer, step = own
    teacher = make_vit(depth=2).requires_grad_(requires_grad=False)

    def distilled():
        optimizer.zero_grad()
        with torch.no_grad():
            targets = teacher(batch[0]).softmax(-1)
        cross_entropy(model(batch[0]), targets).backward()
        optimizer.step()

    alone, both = profile(model, step, repeats=1), profile(model, distilled, repeats=1)

    assert both.at_peak_bytes["weights"] == 2 * alone.at_peak_bytes["weights"]
    assert both.forward_flop == 2 * alone.forward_flop


def test_a_step_may_profile_another(own):
    model, _, step = own
    inner = []

    def outer():
        inner.append(profile(model, step, repeats=1))

    profile(model, outer, repeats=1)

    assert all(same(found, profile(model, step, repeats=1)) for found in inner)


def test_averaged_weights_are_weights(own):
    model, optimizer, step = own
    averaged = AveragedModel(model)

    def averaging():
        step()
        averaged.update_parameters(model)

    found = profile(model, averaging, optimizer, repeats=1)

    assert found.at_peak_bytes["weights"] == 2 * bytes_of(model.parameters())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo asks for it
@pytest.mark.parametrize("compiled", ["the model", "in place", "the loss", "the optimizer"])
def test_a_compiled_step_has_no_eager_bytes(compiled, own, batch):
    """Time is that of the compiled step, and under meters another would run."""
    model, optimizer, step = own
    plain = profile(model, step, repeats=1)
    torch.compiler.reset()
    parts = {"model": model, "loss": cross_entropy, "step": optimizer.step}
    if compiled == "in place":
        model.compile(backend="aot_eager")
    elif compiled == "the model":
        parts["model"] = torch.compile(model, backend="aot_eager")
    elif compiled == "the loss":
        # A function of ours: torch 2.9 runs those of its own as they are.
        parts["loss"] = torch.compile(lambda x, y: 1 * cross_entropy(x, y), backend="aot_eager")
    else:
        parts["step"] = torch.compile(optimizer.step, backend="aot_eager")

    def whole():
        optimizer.zero_grad()
        parts["loss"](parts["model"](batch[0]), batch[1]).backward()
        parts["step"]()

    found = profile(parts["model"], whole, optimizer, repeats=1)

    assert runs_compiled(whole)
    assert found.peak_counted_bytes is found.held_after_forward_bytes is None
    assert found.at_peak_bytes == found.by_module_bytes == {}
    assert (found.forward_flop, found.step_flop) == (plain.forward_flop, plain.step_flop)
    assert "peak memory (counted): not counted" in str(found)
    assert "note: a part of the step is compiled" in str(found)
    assert "<table>" in found._repr_html_()


def test_flops_are_split_where_the_backward_pass_begins(own, batch):
    model, _, step = own
    found = profile(model, step)
    with StepFlops() as flops, torch.no_grad():
        model(batch[0])

    assert found.forward_flop == flops.by_phase["forward"]
    assert found.step_flop == pytest.approx(3 * found.forward_flop, rel=0.05)
