"""Checks of a prepared model in training, saving, bf16 and compilation."""

import io
from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench.harness.conformance.subject import (
    Subject,
    loss_of,
    names_of,
    require,
    tiny_batch,
    trained,
)

STEPS = 10
LEARNT = 0.95  # of the first loss, after the steps
BF16_ERROR = 0.2  # bf16 keeps 8 bits; a token near the edge of what is kept may change places


def ten_steps_learn_and_move_the_trained_and_only_those(subject: Subject) -> None:
    """Ten steps on one batch take a twentieth off the loss and move each trained parameter.

    No frozen one gets a gradient or changes by a bit.
    """
    method, batch = subject.method(), tiny_batch()
    model = method.prepare(subject.model())
    require(bool(trained(model)), "prepare() leaves no parameter that asks for a gradient")
    before = {p: p.detach().clone() for p in model.parameters()}
    # Without decay, so that only a gradient moves a parameter.
    optimizer = torch.optim.AdamW(trained(model), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(model, batch)
        loss.backward()
        bare = [p for p in trained(model) if p.grad is None]
        require(not bare, f"parameters that train got no gradient: {names_of(model, bare)}")
        extra = [p for p in model.parameters() if p.grad is not None and not p.requires_grad]
        require(not extra, f"frozen parameters got a gradient: {names_of(model, extra)}")
        optimizer.step()
        method.step_done()
        optimizer.zero_grad()
        losses.append(loss.item())
    require(
        losses[-1] < LEARNT * losses[0],
        f"after {STEPS} steps on one batch the loss went from {losses[0]:.3g} to {losses[-1]:.3g}; "
        f"expected under {LEARNT:g} of the first",
    )
    still = [p for p in trained(model) if torch.equal(before[p], p)]
    require(not still, f"parameters that train did not move: {names_of(model, still)}")
    moved = [p for p in before if not p.requires_grad and not torch.equal(before[p], p)]
    require(not moved, f"frozen parameters moved: {names_of(model, moved)}")


def same_seed_same_gradients(subject: Subject) -> None:
    """Two runs from one seed agree to the last bit."""
    batch, runs = tiny_batch(), []
    for _ in range(2):
        model = subject.prepared()
        torch.manual_seed(3)
        loss_of(model, batch).backward()
        runs.append(trained(model))
    differ = [a for a, b in zip(*runs, strict=True) if not torch.equal(_gradient(a), _gradient(b))]
    require(
        not differ,
        f"two runs from one seed give other gradients in {len(differ)} of {len(runs[0])} "
        "parameters: draw random numbers from torch's global generator only",
    )


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    return torch.zeros(()) if parameter.grad is None else parameter.grad


def runs_in_bf16_near_fp32(subject: Subject) -> None:
    """Under autocast, in training and evaluation mode, logits stay near and gradients finite."""
    images, labels = tiny_batch()
    for training in (True, False):
        torch.manual_seed(0)
        model = subject.prepared().train(training)
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(images)
            loss = cross_entropy(rounded, labels)
        loss.backward()
        mode = "training" if training else "evaluation"
        far = float((rounded.float() - exact).detach().abs().max())
        require(far <= BF16_ERROR, f"in {mode} mode bf16's logits are off by {far:.2g}")
        for parameter in trained(model):
            gradient = _gradient(parameter)
            require(
                gradient.dtype == parameter.dtype and bool(torch.isfinite(gradient).all()),
                f"in {mode} mode the gradient of {names_of(model, [parameter])} is of "
                f"{gradient.dtype} or not finite",
            )


def state_dict_round_trip(subject: Subject) -> None:
    """Saved weights, read from a file into another prepared model, give the same logits."""
    images, _ = tiny_batch()
    first, second = subject.prepared(seed=0), subject.prepared(seed=1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    require(
        torch.equal(first(images), second(images)),
        "a second model that reads the first one's state dict gives other logits: something that "
        "decides them is neither parameter nor buffer",
    )


def compiles_in_one_piece(subject: Subject) -> None:
    """Where declared, the compiled model is one graph with the logits and gradients of eager.

    Blocks 3 to 7 stand for the twelve: tracing takes its time block by block, and those train,
    do not, drop tokens and do not.
    """
    if not subject.method().compiles:
        return
    images, labels = tiny_batch()
    eager, model = subject.prepared(), subject.prepared()
    model.load_state_dict(eager.state_dict())  # what a method adds starts from random numbers
    for one in (eager, model):
        chain = cast("nn.Sequential", one.get_submodule("blocks"))
        del chain[8:], chain[:3]
    torch.compiler.reset()
    whole = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    logits, expected = whole(images), eager(images)
    cross_entropy(logits, labels).backward()
    cross_entropy(expected, labels).backward()
    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(trained(model), trained(eager), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
