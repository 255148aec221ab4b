"""A loss of a method's own: each term has its backward pass before the next one is asked for."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.composition import Composed, has_own_loss
from bsrbench.harness.launch.forecasting.forecast_inputs import Cost
from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch, until_taken
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_step import optimizer_step, training_step

PENALTY = 3.0


@dataclass(frozen=True)
class TwoPasses(Method):
    """Half of the cross-entropy; then as much again with a term on the logits."""

    source = "a test"
    exact_forward = True
    forward_passes: ClassVar = 2
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def prepare(self, model):
        return model

    def losses(self, model, forward, loss_of):
        yield loss_of(forward()) / 2
        logits = forward()
        yield loss_of(logits) / 2 + PENALTY * logits.square().mean()


@dataclass(frozen=True)
class AtOnce(TwoPasses):
    """The same loss as one term."""

    def losses(self, model, forward, loss_of):
        yield sum(super().losses(model, forward, loss_of))


def two_passes(*_, **__):
    return TwoPasses()


def gradients_of_a_step(job, batch):
    """Return the gradients that the optimizer of a step sees."""
    seen = {}

    def keep(optimizer, *_):
        for group in optimizer.param_groups:
            seen.update({p: p.grad.clone() for p in group["params"] if p.grad is not None})

    handles = [optimizer.register_step_pre_hook(keep) for optimizer in job.optimizers]
    loss = optimizer_step(job, *batch)
    if job.scaler is not None:
        job.scaler.read()
    for handle in handles:
        handle.remove()
    return loss, [seen.get(p) for p in job.trained()]


def test_the_gradient_is_that_of_the_sum_and_the_recorded_loss_the_mean_cross_entropy(make_spec):
    job, batch = job_and_batch(
        make_spec(training=Training(steps=1, learning_rate=1e-3)), two_passes
    )
    logits = job.model(batch[0])
    plain = cross_entropy(logits, batch[1])
    whole = plain + PENALTY * logits.square().mean()
    expected = torch.autograd.grad(whole, job.trained())
    loss, gradients = gradients_of_a_step(job, batch)

    torch.testing.assert_close(list(expected), gradients, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(plain.detach(), loss)


def test_the_cross_entropy_has_the_label_smoothing_of_the_recipe(make_spec):
    training = Training(steps=1, learning_rate=1e-3, label_smoothing=0.3)
    job, batch = job_and_batch(make_spec(training=training), two_passes)
    logits = job.model(batch[0]).detach()
    expected = 0.7 * cross_entropy(logits, batch[1]) - 0.3 * logits.log_softmax(1).mean()

    assert training_step(job, *batch) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("changes", [{"micro_batch": 1}, {"micro_batch": 3}], ids=str)
def test_micro_batches_give_the_gradient_of_the_batch(changes, make_spec):
    """The terms are means over images, so each micro-batch counts by its images."""
    whole, batch = job_and_batch(make_spec(), two_passes)
    parts, _ = job_and_batch(make_spec(**changes), two_passes)
    loss, expected = gradients_of_a_step(whole, batch)
    loss_of_parts, gradients = gradients_of_a_step(parts, batch)

    torch.testing.assert_close(expected, gradients, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss, loss_of_parts)


def test_each_term_is_scaled_in_fp16(make_spec):
    """The gradients of the first step that is not skipped are near those of fp32."""
    exact, batch = job_and_batch(make_spec(), two_passes)
    scaled, _ = job_and_batch(make_spec(precision="fp16"), two_passes)
    _, expected = gradients_of_a_step(exact, batch)
    _, gradients = until_taken(scaled, lambda: gradients_of_a_step(scaled, batch))
    flat, right = (torch.cat([g.flatten() for g in each]) for each in (gradients, expected))
    flat /= scaled.scaler.scale()

    assert (flat - right).norm() < 0.02 * right.norm()


def test_phases_alternate(make_spec):
    job, batch = job_and_batch(make_spec(), two_passes)
    phases = []
    training_step(job, *batch, enter_phase=phases.append)

    assert phases == ["forward", "backward", "forward", "backward", "optimizer"]


def test_the_activations_of_one_forward_pass_are_stored_at_a_time(make_spec):
    """What full fine-tuning stores, and the logits [4, 5] of the second term; at once, twice it."""
    held = []
    for made in (methods.load("full"), TwoPasses(), AtOnce()):
        job, batch = job_and_batch(make_spec(), lambda *_, made=made, **__: made)
        counted_step(job, batch)
        held.append(counted_step(job, batch).held_after_forward)

    assert held[0] < held[1] < held[0] + 1000
    assert held[2] > 1.9 * held[0]


def test_flops_are_those_of_all_passes_and_two_counters_agree(make_spec):
    once = flop_pass(make_spec(), methods.load).measurements
    twice = flop_pass(make_spec(), two_passes)

    assert twice.measurements["forward_flop"] == 2 * once["forward_flop"]
    assert twice.measurements["step_flop"] == 2 * once["step_flop"]
    assert twice.measurements["forward_macs"] == once["forward_macs"]
    assert twice.notes == ()


def test_a_prediction_counts_all_passes_and_has_no_number_by_the_convention(make_spec):
    predicted, read = predict(make_spec(), two_passes), flop_pass(make_spec(), two_passes)

    for name in ("forward_flop", "step_flop", "forward_macs"):
        assert predicted.measurements[name] == read.measurements[name]
    assert predicted.notes == ()
    assert (
        "a loss that is not the cross-entropy" in predicted.missing["paper_convention_bytes"].text
    )


def test_a_forecast_of_an_evaluation_is_that_of_one_pass():
    values = {"step_flop": 30, "forward_flop": 20, "trained_parameters": 1, "total_parameters": 1}

    assert Cost.of(values).forward_flop == 20
    assert Cost.of(values | {"forward_macs": 5}).forward_flop == 10


def test_an_optimizer_in_the_backward_pass_is_unsupported(make_spec):
    with pytest.raises(Unsupported, match="would step after each of them"):
        begin(make_spec(optimizer_in_backward=True), two_passes)


def test_a_composition_has_the_loss_of_the_part_that_has_one(make_spec):
    head = methods.load("head")
    for parts in ((head, TwoPasses()), (TwoPasses(), head)):
        made = Composed(parts)
        job, batch = job_and_batch(make_spec(), lambda *_, made=made, **__: made)
        passes = []
        job.model.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        training_step(job, *batch)

        assert has_own_loss(made)
        assert made.forward_passes == len(passes) == 2
    assert not has_own_loss(Composed((head, methods.load("int8"))))


@dataclass(frozen=True)
class OtherLoss(TwoPasses):
    kinds: ClassVar = frozenset({Kind.STORES_WEIGHTS})


def test_two_losses_of_their_own_are_no_pair(make_vit):
    with pytest.raises(Unsupported, match="both methods have a loss of their own"):
        Composed((TwoPasses(), OtherLoss())).prepare(make_vit())


def test_a_loss_of_ones_own_and_an_estimate_are_no_pair(make_vit):
    with pytest.raises(
        Unsupported, match=r"dyt has a loss of its own .* mezo has no backward pass"
    ):
        methods.load("dyt+mezo").prepare(make_vit())


@dataclass(frozen=True)
class Settles(TwoPasses):
    """Notes what it is asked to settle."""

    evaluates_alike: ClassVar = False
    asked: ClassVar = []

    def settle(self, model, images):
        self.asked.append((model.training, torch.is_grad_enabled(), tuple(images.shape)))


def test_a_pass_that_measures_settles_the_model_and_a_training_does_not(make_spec):
    Settles.asked.clear()
    made = Composed((methods.load("head"), Settles()))
    begin(make_spec(), lambda *_, **__: made)
    assert Settles.asked == []

    job_and_batch(make_spec(), lambda *_, **__: made)
    assert Settles.asked == [(True, False, (4, 3, 64, 64))]


@dataclass(frozen=True)
class DropsInTraining(TwoPasses):
    """Drops every second token before the second block, in training only."""

    alike: bool = True

    def prepare(self, model):
        model.blocks[1].register_forward_pre_hook(
            lambda block, inputs: (inputs[0][:, ::2],) if block.training else None
        )
        return model

    @property
    def evaluates_alike(self):
        return self.alike


@pytest.mark.parametrize("read", [predict, flop_pass], ids=["predicted", "measured"])
def test_two_counters_are_not_compared_where_evaluation_differs(read, make_spec):
    said, unsaid = (
        read(make_spec(), lambda *_, alike=alike, **__: DropsInTraining(alike)).notes
        for alike in (False, True)
    )

    assert said == ()
    assert "two counters disagree" in unsaid[0].text
