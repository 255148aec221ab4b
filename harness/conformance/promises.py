"""Checks of declared facts: forward pass, gradient, tokens and memory."""

import torch
from torch import Tensor, nn

from bsrbench.harness.conformance.subject import (
    BATCH,
    CLASSES,
    PATCH,
    TOKENS,
    WIDTH,
    Subject,
    loss_of,
    names_of,
    require,
    tiny_batch,
    trained,
)
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Composed, Method, apply
from bsrbench.harness.training.kept_storages import KeptStorages, census

ROUNDING = 1e-5  # fp32 noise between two orders of the same sums
SLACK = 4  # a declared error bound is at most so many times what is seen
DIRECTIONS = 48  # random directions: the error's estimate is good to about a fifth
DIRECTIONS_IF_EXACT = 4  # that something is wrong at all, any one direction shows
NUDGE = 1e-6
EXACT_ERROR = 1e-6
IN_TRAINING = "in training only"
FLOP_SHARE = 0.1  # LoRA of rank 8 on a width of 32 adds 8 %; what is added is small elsewhere


def keeps_the_parameters(subject: Subject) -> None:
    """prepare() returns a model that wraps or freezes parameters; none is copied, lost or changed.

    All methods start from the same numbers, or they are not compared by what they train.
    """
    model = subject.model()
    before = list(model.parameters())
    numbers = {parameter: parameter.detach().clone() for parameter in before}
    made = apply(subject.method(), model)
    after = {id(parameter) for parameter in made.parameters()}
    lost = [parameter for parameter in before if id(parameter) not in after]
    require(not lost, f"prepare() lost or copied parameters: {names_of(model, lost)}")
    changed = [parameter for parameter in before if not _same(parameter, numbers[parameter])]
    require(
        not changed,
        f"prepare() changed the numbers, type or shape of {names_of(made, changed)}: leave "
        "pretrained parameters as they are, and add what is new beside them",
    )


def _same(now: Tensor, then: Tensor) -> bool:
    return now.dtype == then.dtype and torch.equal(now, then)


def forward_promise(subject: Subject) -> None:
    """Logits equal the untouched model's in training and evaluation when the method says so."""
    images, _ = tiny_batch()
    given = images.clone()
    method = subject.method()
    made, untouched = method.prepare(subject.model()), subject.model()
    same, apart = True, 0.0
    for training in (True, False):
        logits, plain = made.train(training)(images), untouched.train(training)(given)
        require(
            torch.equal(images, given),
            "the forward pass changed the images it was given in place: work on a copy",
        )
        require(
            logits.shape == plain.shape,
            f"logits have shape {list(logits.shape)}, expected {list(plain.shape)}",
        )
        same = same and torch.allclose(logits, plain, atol=ROUNDING)
        apart = max(float((logits - plain).detach().abs().max()), apart)
    require(
        method.exact_forward == same,
        f"exact_forward is {method.exact_forward}, and the logits are "
        f"{'those' if same else 'not those'} of the untouched model (largest difference "
        f"{apart:.2g})",
    )


def gradient_promise(subject: Subject) -> None:
    """The gradient's error against differences of the method's own loss lies within its bound.

    For directions v of independent normal numbers the mean of ((g - g') v)^2 is |g - g'|^2.
    """
    method = subject.method()
    images, labels = tiny_batch()
    batch = images.double(), labels
    model = method.prepare(subject.model().double())
    loss_of(model, batch).backward()
    error = _error(model, batch, DIRECTIONS if method.gradient_error else DIRECTIONS_IF_EXACT)
    if method.gradient_error == 0:
        require(
            error < EXACT_ERROR,
            f"gradient_error is 0.0, and the gradient is off by {error:.2g} of its length against "
            "central differences of the loss in float64",
        )
        return
    require(
        error <= method.gradient_error,
        f"gradient_error promises {method.gradient_error:g}, and {error:.2g} is seen",
    )
    loose = isinstance(method, Composed) or subject.changes  # the bound is of the usual blocks
    require(
        bool(loose) or error >= method.gradient_error / SLACK,
        f"gradient_error promises {method.gradient_error:g}, and only {error:.2g} is seen: a bound "
        f"more than {SLACK} times too wide says nothing",
    )


def _error(model: nn.Module, batch: tuple[Tensor, Tensor], directions: int) -> float:
    parameters = trained(model)
    generator = torch.Generator().manual_seed(2)
    wrong = right = 0.0
    for _ in range(directions):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = _slope(model, batch, parameters, direction)
        ours = sum(
            float((p.grad * d).sum())
            for p, d in zip(parameters, direction, strict=True)
            if p.grad is not None
        )
        wrong += (ours - slope) ** 2
        right += slope**2
    return float((wrong / right) ** 0.5)


def _slope(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    parameters: list[nn.Parameter],
    direction: list[Tensor],
) -> float:
    """Return the slope of the loss along a direction, by a central difference."""
    ends = []
    with torch.no_grad():
        for way in (NUDGE, -2 * NUDGE):
            for parameter, step in zip(parameters, direction, strict=True):
                parameter.add_(step, alpha=way)
            ends.append(float(loss_of(model, batch)))
        for parameter, step in zip(parameters, direction, strict=True):
            parameter.add_(step, alpha=NUDGE)
    return (ends[0] - ends[1]) / (2 * NUDGE)


def holds_less_than_full_fine_tuning(subject: Subject) -> None:
    """Between forward and backward fewer bytes are alive than under 'full', where promised.

    What is kept from step to step is among them, but for parameters and buffers.
    Examined on a CPU, and so not of a method that is made for other devices.
    """
    method = subject.method()
    if not method.made_for("cpu"):
        return
    with census() as kept:
        held = _held_bytes(method, subject.model(), kept)
    with census() as kept:
        full = _held_bytes(subject.load("full"), subject.model(), kept)
    require(
        method.saves_over_full == (held < full),
        f"saves_over_full is {method.saves_over_full}, and between forward and backward pass "
        f"{held:,} bytes are alive, of full fine-tuning {full:,}",
    )


def _held_bytes(method: Method, model: nn.Module, kept: KeptStorages) -> int:
    """Return what is held in a second step, of which the first may keep something."""
    batch = tiny_batch()
    model = method.prepare(model)
    known = [*model.parameters(), *model.buffers(), *batch]
    with LiveBytes() as live:
        live.watch(known, Category.INPUTS)
        loss_of(model, batch).backward()
        model.zero_grad()
        method.step_done()
        kept.left_behind(live.keep_rest())
    with LiveBytes() as live:
        live.watch(known, Category.INPUTS)
        start = live.now
        live.watch(kept.find([method, model], known).values(), Category.KEPT)
        loss = loss_of(model, batch)  # keeps the graph alive while we read
        held: int = live.now - start
    del loss
    return held


def passes_on_the_tokens_it_declares(subject: Subject) -> None:
    """Each block's MLP sees as many tokens as tokens() says; FLOPs follow from them.

    In evaluation, too, unless the card says that tokens change *in training only*.
    """
    method = subject.method()
    images, _ = tiny_batch()
    model = subject.model()
    seen: list[int] = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *call: seen.append(call[-1].shape[1]))
    made = method.prepare(model)
    with StepFlops() as flops:
        made(images)
    declared = method.tokens(TOKENS)
    require(
        tuple(seen) == declared,
        f"tokens({TOKENS}) declares {list(declared)}, and the blocks' MLPs saw {seen}",
    )
    seen.clear()
    made.eval()(images)
    require(
        tuple(seen) == declared or IN_TRAINING in subject.card(),
        f"tokens({TOKENS}) declares {list(declared)}, and in evaluation the blocks' MLPs saw "
        f"{seen}: if that is meant, say {IN_TRAINING!r} in the docstring",
    )
    added = 2 * BATCH * method.added_macs(declared, WIDTH)
    counted, expected = flops.by_phase["forward"], _forward_flop(declared) + added
    require(
        abs(counted - expected) <= FLOP_SHARE * expected,
        f"the forward pass takes {counted:,} FLOPs, and these tokens should take {expected:,}, "
        f"of which added_macs() declares {added:,}",
    )


def _forward_flop(tokens: tuple[int, ...]) -> int:
    """Return 2 x multiply-adds of the tiny model: patches, blocks, head."""
    macs = (TOKENS - 1) * 3 * PATCH**2 * WIDTH + CLASSES * WIDTH
    for before, after in zip((TOKENS, *tokens), tokens, strict=False):
        macs += before * 4 * WIDTH**2 + 2 * before**2 * WIDTH  # qkv, proj; scores, mixing
        macs += after * 8 * WIDTH**2  # the MLP comes after the dropping
    return 2 * BATCH * macs
