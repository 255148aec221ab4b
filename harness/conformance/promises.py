"""Checks of declared facts: forward pass, gradient, tokens and memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from bsrbench.harness.composition import Composed
from bsrbench.harness.conformance import estimates_of_gradients, weight_storage
from bsrbench.harness.conformance.subject import (
    BATCH,
    CLASSES,
    PATCH,
    TOKENS,
    WIDTH,
    Subject,
    backward,
    cross_entropy_of,
    estimates,
    loss_of,
    names_of,
    ready,
    require,
    terms,
    tiny_batch,
    trained,
)
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Method, apply
from bsrbench.harness.training.kept_storages import KeptStorages, census

ROUNDING = 1e-5  # fp32 rounding, if the same sums are added in another order
SLACK = 4  # a declared error bound may be at most this many times the measured error
DIRECTIONS = 48  # random directions; they estimate the error to about 20 %
DIRECTIONS_IF_EXACT = 4  # any single direction shows that a gradient is not exact
NUDGE = 1e-7  # so small that no token of a few hundred changes its rank
EXACT_ERROR = 1e-6
IN_TRAINING = "in training only"
FLOP_SHARE = 0.1  # tolerance: LoRA of rank 8 adds 8 % at width 32; other undeclared FLOPs are few


def keeps_the_parameters(subject: Subject) -> None:
    """prepare() may wrap or freeze parameters, but does not copy, lose or change any of them.

    All methods must start from the same weights. Otherwise they cannot be compared by what they
    train. A frozen weight may be replaced by a layer that stores it in parts.
    """
    model = subject.model()
    before = list(model.parameters())
    numbers = {parameter: parameter.detach().clone() for parameter in before}
    made = apply(subject.method(), model)
    after = {id(parameter) for parameter in made.parameters()}
    lost = [parameter for parameter in before if id(parameter) not in after]
    lost = weight_storage.not_stored(made, lost)
    require(not lost, f"prepare() lost or copied parameters: {names_of(model, lost)}")
    changed = [parameter for parameter in before if not _same(parameter, numbers[parameter])]
    require(
        not changed,
        f"prepare() changed the values, type or shape of {names_of(made, changed)}: do not "
        "change pretrained parameters; add new parameters instead",
    )


def _same(now: Tensor, then: Tensor) -> bool:
    return now.dtype == then.dtype and torch.equal(now, then)


def forward_promise(subject: Subject) -> None:
    """The logits equal those of the original model if and only if ``exact_forward`` is true.

    The check runs in training mode and in evaluation mode.
    """
    images, _ = tiny_batch()
    original_images = images.clone()
    method = subject.method()
    made, untouched = method.prepare(subject.model()), subject.model()
    same, apart = True, 0.0
    for training in (True, False):
        logits = made.train(training)(images)
        plain = untouched.train(training)(original_images)
        require(
            torch.equal(images, original_images),
            "the forward pass changed the input images in place: change a copy instead",
        )
        require(
            logits.shape == plain.shape,
            f"logits have shape {list(logits.shape)}, expected {list(plain.shape)}",
        )
        same = same and torch.allclose(logits, plain, atol=ROUNDING)
        apart = max(float((logits - plain).detach().abs().max()), apart)
    weight_storage.require_forward_error(subject)
    require(
        method.exact_forward == same,
        f"exact_forward is {method.exact_forward}, but the logits "
        f"{'equal' if same else 'differ from'} those of the original model (largest difference "
        f"{apart:.2g})",
    )


def gradient_promise(subject: Subject) -> None:
    """The relative error of the gradient is at most ``gradient_error``.

    The reference g' is central differences of the method's own loss. For directions v of
    independent standard normal numbers, the mean of ((g - g') v)^2 is |g - g'|^2. A method that
    estimates gradients must be right in the mean.
    """
    method = subject.method()
    images, labels = tiny_batch()
    batch = images.double(), labels
    model = ready(method, subject.model().double())
    if estimates(method):
        estimates_of_gradients.require_unbiased(method, model, batch)
        return
    loss = _same_loss(method, model, batch)
    backward(method, model, batch)
    error = _error(model, loss, DIRECTIONS if method.gradient_error else DIRECTIONS_IF_EXACT)
    if method.gradient_error == 0:
        require(
            error < EXACT_ERROR,
            f"gradient_error is 0.0, but the relative error of the gradient is {error:.2g}, "
            "compared with central differences of the loss in float64",
        )
        return
    require(
        error <= method.gradient_error,
        f"gradient_error is {method.gradient_error:g}, but the measured relative error is "
        f"{error:.2g}",
    )
    loose = (
        isinstance(method, Composed) or subject.changes
    )  # bounds are declared for one method on usual blocks
    require(
        bool(loose) or error >= method.gradient_error / SLACK,
        f"gradient_error is {method.gradient_error:g}, but the measured relative error is only "
        f"{error:.2g}: declare at most {SLACK} times the measured error",
    )


def _same_loss(
    method: Method, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> Callable[[], float]:
    """Return a function that computes the loss, always with the random numbers that come next."""
    draws = torch.get_rng_state()

    def loss() -> float:
        torch.set_rng_state(draws)
        return float(loss_of(method, model, batch))

    return loss


def _error(model: nn.Module, loss: Callable[[], float], directions: int) -> float:
    """Return the relative error of the gradient, estimated along random directions."""
    parameters = trained(model)
    generator = torch.Generator().manual_seed(2)
    wrong = right = 0.0
    for _ in range(directions):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = _slope(loss, parameters, direction)
        ours = sum(
            float((p.grad * d).sum())
            for p, d in zip(parameters, direction, strict=True)
            if p.grad is not None
        )
        wrong += (ours - slope) ** 2
        right += slope**2
    return float((wrong / right) ** 0.5)


def _slope(
    loss: Callable[[], float], parameters: list[nn.Parameter], direction: list[Tensor]
) -> float:
    """Return the slope of the loss along a direction, by a central difference."""
    ends = []
    with torch.no_grad():
        for way in (NUDGE, -2 * NUDGE):
            for parameter, step in zip(parameters, direction, strict=True):
                parameter.add_(step, alpha=way)
            ends.append(loss())
        for parameter, step in zip(parameters, direction, strict=True):
            parameter.add_(step, alpha=NUDGE)
    return (ends[0] - ends[1]) / (2 * NUDGE)


def holds_less_than_full_fine_tuning(subject: Subject) -> None:
    """Fewer bytes exist after the forward pass than for 'full', as ``saves_over_full`` says.

    Tensors that the method keeps from step to step count, except parameters and buffers. The check
    runs on a CPU, so it leaves out methods that are made for other devices.
    """
    method = subject.method()
    if not method.made_for("cpu"):
        return
    with census() as kept:
        held = held_bytes(method, subject.model(), kept)
    with census() as kept:
        full = held_bytes(subject.load("full"), subject.model(), kept)
    require(
        method.saves_over_full == (held < full),
        f"saves_over_full is {method.saves_over_full}, but after the forward pass {held:,} bytes "
        f"exist, and {full:,} bytes in full fine-tuning",
    )


def held_bytes(method: Method, model: nn.Module, kept: KeptStorages) -> int:
    """Return the bytes that exist after the forward pass of the second step.

    The first step can leave tensors behind that are kept in the second.
    """
    batch = tiny_batch()
    model = ready(method, model)
    known = [*model.parameters(), *model.buffers(), *batch]
    with LiveBytes() as live:
        live.watch(known, Category.INPUTS)
        backward(method, model, batch)
        method.step_done()
        model.zero_grad()
        kept.left_behind(live.keep_rest())
    with LiveBytes() as live:
        live.watch(known, Category.INPUTS)
        start = live.now
        live.watch(kept.find([method, model], known).values(), Category.KEPT)
        held: int = max(live.now - start for _ in _stored_terms(method, model, batch))
    return held


def _stored_terms(
    method: Method, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> Iterator[Tensor]:
    """Yield each term of the loss, of shape [], while what its backward pass needs is stored."""
    if estimates(method):
        with torch.no_grad():
            yield cross_entropy_of(model, batch)
        return
    for term in terms(method, model, batch):
        yield term
        term.backward()
        model.zero_grad()


def passes_on_the_tokens_it_declares(subject: Subject) -> None:
    """Each block's MLP gets the number of tokens that tokens() declares, and FLOPs agree with it.

    A block can run its MLP again for tokens that it does not pass on; added_macs() includes them.
    This holds in evaluation, too, unless the docstring says that tokens change *in training only*.
    """
    method = subject.method()
    images, _ = tiny_batch()
    model = subject.model()
    seen: list[int] = []

    def note(index: int, output: Tensor) -> None:
        if len(seen) == index:
            seen.append(output.shape[1])

    for index, block in enumerate(model.blocks):
        block.mlp.register_forward_hook(lambda *call, index=index: note(index, call[-1]))
    made = method.prepare(model)
    with StepFlops() as flops:
        made(images)
    declared = method.tokens(TOKENS)
    require(
        tuple(seen) == declared,
        f"tokens({TOKENS}) declares {list(declared)}, but the MLPs of the blocks got {seen}",
    )
    seen.clear()
    made.eval()(images)
    require(
        tuple(seen) == declared or IN_TRAINING in subject.card(),
        f"tokens({TOKENS}) declares {list(declared)}, but in evaluation the MLPs of the blocks got "
        f"{seen}: if this is intended, write {IN_TRAINING!r} in the docstring",
    )
    added_macs = method.added_macs(declared, WIDTH)
    if added_macs is None:
        return
    added = 2 * BATCH * added_macs
    counted, expected = flops.by_phase["forward"], _forward_flop(declared) + added
    require(
        abs(counted - expected) <= FLOP_SHARE * expected,
        f"the forward pass has {counted:,} FLOPs, but tokens() and added_macs() give {expected:,} "
        f"(of which {added:,} come from added_macs())",
    )


def _forward_flop(tokens: tuple[int, ...]) -> int:
    """Return the FLOPs of a forward pass: 2 x multiply-adds of patches, blocks and head."""
    macs = (TOKENS - 1) * 3 * PATCH**2 * WIDTH + CLASSES * WIDTH
    for before, after in zip((TOKENS, *tokens), tokens, strict=False):
        macs += before * 4 * WIDTH**2 + 2 * before**2 * WIDTH  # qkv, proj; scores, mixing
        macs += after * 8 * WIDTH**2  # tokens are dropped before the MLP
    return 2 * BATCH * macs
