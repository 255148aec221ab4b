"""Checks of a prepared model in training, saving, bf16, fp16 and compilation."""

import io
from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench.harness.conformance.subject import (
    Subject,
    backward,
    estimates,
    names_of,
    ready,
    require,
    tiny_batch,
    trained,
)

STEPS = 10
LEARNT = 0.95  # the loss after the steps must be below this fraction of the first loss
BF16_ERROR = 0.2  # bf16 has 8 significant bits; rounding can change which tokens are kept
FP16_ERROR = 0.05  # fp16 has 11
FP16_SCALE = 2.0**10  # of the loss; without it, small gradients become 0


def ten_steps_learn_and_move_the_trained_and_only_those(subject: Subject) -> None:
    """Ten steps on one batch reduce the loss by 5 % and change each trained parameter.

    Frozen parameters get no gradient, and no bit of them changes. Estimates of gradients are too
    noisy for ten steps to reduce the loss.
    """
    method, batch = subject.method(), tiny_batch()
    model = ready(method, subject.model())
    require(bool(trained(model)), "after prepare() no parameter has requires_grad")
    before = {p: p.detach().clone() for p in model.parameters()}
    # Without weight decay, so that only a gradient changes a parameter.
    optimizer = torch.optim.AdamW(trained(model), lr=1e-2, weight_decay=0.0)
    losses = []
    for number in range(STEPS):
        loss = backward(method, model, batch, number)
        bare = [p for p in trained(model) if p.grad is None]
        require(not bare, f"trained parameters got no gradient: {names_of(model, bare)}")
        extra = [p for p in model.parameters() if p.grad is not None and not p.requires_grad]
        require(not extra, f"frozen parameters got a gradient: {names_of(model, extra)}")
        optimizer.step()
        method.step_done()
        optimizer.zero_grad()
        losses.append(loss.item())
    require(
        estimates(method) or losses[-1] < LEARNT * losses[0],
        f"after {STEPS} steps on one batch the loss went from {losses[0]:.3g} to {losses[-1]:.3g}; "
        f"expected less than {LEARNT:g} times the first loss",
    )
    unchanged = [p for p in trained(model) if torch.equal(before[p], p)]
    require(not unchanged, f"trained parameters did not change: {names_of(model, unchanged)}")
    moved = [p for p in before if not p.requires_grad and not torch.equal(before[p], p)]
    require(not moved, f"frozen parameters changed: {names_of(model, moved)}")


def same_seed_same_gradients(subject: Subject) -> None:
    """Two runs with the same seed give the same gradients, bit by bit."""
    batch, runs = tiny_batch(), []
    for _ in range(2):
        method = subject.method()
        model = ready(method, subject.model())
        torch.manual_seed(3)
        backward(method, model, batch)
        runs.append(trained(model))
    differ = [a for a, b in zip(*runs, strict=True) if not torch.equal(_gradient(a), _gradient(b))]
    require(
        not differ,
        f"two runs with the same seed give different gradients in {len(differ)} of {len(runs[0])} "
        "parameters: draw random numbers only from torch's global generator",
    )


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    return torch.zeros(()) if parameter.grad is None else parameter.grad


def runs_in_bf16_near_fp32(subject: Subject) -> None:
    """With bf16 autocast, logits are close to those of fp32, and gradients are finite.

    The check runs in training mode and in evaluation mode.
    """
    _require_near_fp32(subject, torch.bfloat16, BF16_ERROR)


def runs_in_fp16_near_fp32(subject: Subject) -> None:
    """With fp16 autocast and a scaled loss, logits are close to those of fp32, gradients finite.

    The check runs in training mode and in evaluation mode.
    """
    _require_near_fp32(subject, torch.float16, FP16_ERROR, FP16_SCALE)


def _require_near_fp32(
    subject: Subject, dtype: torch.dtype, bound: float, scale: float = 1.0
) -> None:
    """Require that logits are within a bound, and that gradients of the scaled loss are finite."""
    images, labels = tiny_batch()
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    for training in (True, False):
        torch.manual_seed(0)
        model = subject.prepared().train(training)
        draws = torch.get_rng_state()
        exact = model(images)
        torch.set_rng_state(draws)
        with torch.autocast("cpu", dtype):
            rounded = model(images)
            loss = cross_entropy(rounded, labels)
        (loss * scale).backward()
        mode = "training" if training else "evaluation"
        far = float((rounded.float() - exact).detach().abs().max())
        require(
            far <= bound,
            f"in {mode} mode the logits in {name} differ from those in fp32 by {far:.2g}, expected "
            f"at most {bound:g}",
        )
        for parameter in trained(model):
            gradient = _gradient(parameter)
            require(
                gradient.dtype == parameter.dtype and bool(torch.isfinite(gradient).all()),
                f"in {mode} mode the gradient of {names_of(model, [parameter])} has the type "
                f"{gradient.dtype}; expected finite numbers of type {parameter.dtype}",
            )


def state_dict_round_trip(subject: Subject) -> None:
    """A second prepared model that loads saved weights from a file gives the same logits."""
    images, _ = tiny_batch()
    first, second = subject.prepared(seed=0), subject.prepared(seed=1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    logits = []
    for model in (first, second):
        torch.manual_seed(4)  # a method may draw random numbers in a forward pass
        logits.append(model(images))
    require(
        torch.equal(*logits),
        "a second model that loads the state dict of the first gives different logits: they "
        "depend on something that is neither a parameter nor a buffer",
    )


def compiles_in_one_piece(subject: Subject) -> None:
    """If declared, the compiled model is one graph with the logits and gradients of eager mode.

    Only blocks 3 to 7 are compiled, because each block adds to the time of tracing. Among them are
    blocks that train and blocks that do not, blocks that drop tokens and blocks that do not.
    """
    if subject.method().compiles:
        compile_in_one_piece(subject)


def compile_in_one_piece(subject: Subject) -> None:
    """Compile five blocks as one graph, and compare logits and gradients with those of eager mode.

    Raises:
        Exception: torch cannot compile the model, or the numbers differ.
    """
    images, labels = tiny_batch()
    eager, model = subject.prepared(), subject.prepared()
    model.load_state_dict(eager.state_dict())  # new modules start with random weights
    for prepared in (eager, model):
        chain = cast("nn.Sequential", prepared.get_submodule("blocks"))
        del chain[8:], chain[:3]
    torch.compiler.reset()
    whole = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    logits, expected = whole(images), eager(images)
    cross_entropy(logits, labels).backward()
    cross_entropy(expected, labels).backward()
    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(trained(model), trained(eager), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
