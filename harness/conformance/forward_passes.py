"""Checks of the forward passes of a step, and of a loss that is a method's own."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bsrbench.harness.composition import Composed
from bsrbench.harness.conformance.subject import (
    Subject,
    backward,
    estimates,
    require,
    tiny_batch,
)
from bsrbench.harness.meters.step_flops import StepFlops


def step_has_the_forward_passes_it_declares(subject: Subject) -> None:
    """A step has ``forward_passes`` forward passes, and the model is in training mode after it."""
    method, model = subject.method(), subject.prepared()
    passes: list[Tensor] = []
    watcher = model.register_forward_hook(lambda *call: passes.append(call[-1].detach()))
    backward(method, model, tiny_batch())
    watcher.remove()
    require(
        len(passes) == method.forward_passes,
        f"forward_passes is {method.forward_passes}, but a step has {len(passes)}",
    )
    require(
        all(part.training for part in model.modules()),
        "after a step, a part of the model is not in training mode",
    )


def loss_is_made_of_cross_entropies(subject: Subject) -> None:
    """The terms of the loss are numbers with a gradient, and loss_of() is called for logits.

    The harness records the mean of what loss_of() returns, so that losses of methods can be
    compared.
    """
    method, model = subject.method(), subject.prepared()
    if estimates(method):
        return
    images, labels = tiny_batch()
    read: list[Tensor] = []

    def loss_of(logits: Tensor) -> Tensor:
        read.append(logits)
        return cross_entropy(logits, labels)

    shapes = []
    for term in method.losses(model, lambda: model(images), loss_of):
        shapes.append(list(term.shape))
        require(term.requires_grad, "losses() yields a term without a gradient")
        term.backward()
    require(
        shapes == [[]] * len(shapes) and bool(shapes),
        f"losses() yields terms of shapes {shapes}; expected at least one, each of shape []",
    )
    require(bool(read), "losses() does not call loss_of(), so there is no cross-entropy to record")


def evaluation_differs_as_declared(subject: Subject) -> None:
    """If ``evaluates_alike`` is false, a forward pass in evaluation has other FLOPs.

    In a composition another part can take away what differs.
    """
    method = subject.method()
    if method.evaluates_alike or isinstance(method, Composed):
        return
    model, (images, _) = subject.prepared(), tiny_batch()
    counted = []
    for training in (True, False):
        with StepFlops() as flops, torch.set_grad_enabled(training):
            model.train(training)(images)
        counted.append(flops.by_phase["forward"])
    require(
        counted[0] != counted[1],
        f"evaluates_alike is False, but a forward pass has {counted[0]:,} FLOPs in training and in "
        "evaluation: leave it out",
    )
