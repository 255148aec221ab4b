"""Linear layers that store their input in Tucker form for the gradient of the weight."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsrbench.harness.method import NeedsValues, Unsupported
from bsrbench.harness.model.experts import ExpertMlp, lowered
from bsrbench.harness.model.stored_weight import StoredWeight
from bsrbench.harness.model.vit import stored_blocks, vision_transformer
from bsrbench.harness.torch_internals.eager_internals import makes_fake_tensors
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.option_checks import check_at_least, check_share
from bsrbench.methods.parts.tucker import (
    CHANNELS,
    MODES,
    TOKENS,
    Tucker,
    fitting_ranks,
    gradient_of_weight,
    iterated,
    kept_numbers,
    projected,
    ranks_by_variance,
)

EXPLAINED = 0.8
ON_NOISE = (
    "ranks of inputs were chosen on the first batch; that of a profile is noise, so its memory, "
    "FLOPs and times are not those of a training: set ranks to compare methods"
)
THREE = "the ranks of images, tokens and channels"
RANKS, FACTORS = "ranks", ("images", "tokens", "channels")  # in a state dict
VIEWS = frozenset({"ViewBackward0", "UnsafeViewBackward0", "TransposeBackward0"})


@dataclass(frozen=True)
class RankChoice:
    """How the ranks of Tucker forms are chosen.

    Attributes:
        explained: share of the squared norm that each mode's rank explains, in (0, 1]; ``None`` is
            0.8, or that ``ranks`` are set.
        ranks: ranks of images, tokens and channels; empty if they follow from ``explained``.
    """

    explained: float | None
    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.ranks and self.explained is not None:
            raise ValueError(
                f"explained {self.explained} and ranks {self.ranks} are both set, but explained "
                "chooses the ranks: leave out one of the two"
            )
        if self.explained is not None:
            check_share("explained", self.explained)
        if self.ranks and len(self.ranks) != len(MODES):
            raise ValueError(f"ranks {self.ranks} must be three numbers: {THREE}")
        for rank in self.ranks:
            check_at_least("ranks", rank, 1)

    def facts(self) -> dict[str, Any]:
        """Return what an environment says of the choice: nothing if the ranks are set."""
        return {} if self.ranks else {"depends_on_data": ON_NOISE}

    def of(self, x: Tensor) -> tuple[int, ...]:
        """Return the ranks for x [images, tokens, channels], the first input of a layer.

        Raises:
            NeedsValues: they follow from the numbers in x, and x has none.
        """
        if self.ranks:
            return self.ranks
        share = EXPLAINED if self.explained is None else self.explained
        if share < 1 and makes_fake_tensors():
            raise NeedsValues(
                f"the ranks follow from the first batch (explained = {share}), and a prediction "
                f"has no data: set ranks, {THREE}"
            )
        return ranks_by_variance(x, share)


class InputSubspace(nn.Module):
    """The state of one layer: its ranks, and the factors of the last input.

    The factors are where the next iteration starts. The backward pass reads the same tensors, so
    they exist once. They are not buffers, because torch loads a buffer only if its shape is known
    before the first batch. They are not torch's extra state either: this must be one tensor if a
    model is traced. So the state dict has the ranks, and each factor that exists, by name.

    Attributes:
        ranks: ranks of images, tokens and channels; empty before the first batch.
        factors: for each mode [size, rank]; ``None`` before the first batch, or if it is whole.
    """

    def __init__(self, choice: RankChoice) -> None:
        super().__init__()
        self._choice = choice
        self.ranks: list[int] = []
        self.factors: list[Tensor | None] = [None] * len(MODES)

    def _save_to_state_dict(self, state: dict[str, Any], prefix: str, keep_vars: bool) -> None:  # noqa: ARG002 - torch's signature
        """Add ranks and factors to a state dict; torch calls this for each module."""
        if self.ranks:
            state[prefix + RANKS] = torch.tensor(self.ranks)
        for name, factor in zip(FACTORS, self.factors, strict=True):
            if factor is not None:
                state[prefix + name] = factor

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *_: object) -> None:
        """Take over ranks and factors of a state dict; torch calls this for each module."""
        ranks = state.get(prefix + RANKS)
        self.ranks = [] if ranks is None else ranks.tolist()
        self.factors = [state.get(prefix + name) for name in FACTORS]

    @torch.no_grad()
    def form(self, x: Tensor) -> Tucker:
        """Return x [images, tokens, channels] in Tucker form, after one iteration of each mode.

        If this form has no fewer numbers than x, all modes are whole, and the core is x.
        """
        x = lowered(x.detach())
        with torch.autocast(x.device.type, enabled=False):
            if not self.ranks:
                self.ranks = list(self._choice.of(x))
            ranks = fitting_ranks(x.shape, self.ranks)
            if kept_numbers(x.shape, ranks) >= x.numel():
                return Tucker(x, (None, None, None))
            if x.dtype == torch.float16:  # sums over all rows can be larger than fp16 can hold
                x = x.float()
            factors = tuple(self._factor(x, mode, ranks[mode]) for mode in MODES)
            return Tucker(projected(x, factors), factors)

    def _factor(self, x: Tensor, mode: int, rank: int) -> Tensor | None:
        """Return the factor of a mode [n, rank], and keep it for the next input."""
        size = x.shape[mode]
        if rank == size:
            return None
        last = self.factors[mode]
        if last is None or last.shape != (size, rank):
            start = torch.randn(size, rank, device=x.device, dtype=x.dtype)
        else:
            start = last.to(x)
        factor = iterated(x, start, mode)
        # A smaller batch, such as the last one of an epoch, leaves the factor of the usual one.
        if last is None or size >= last.shape[0]:
            self.factors[mode] = factor
        return factor


def keep_inputs_in_subspaces(model: nn.Module, choice: RankChoice) -> None:
    """Make the Linear layers of the blocks store their inputs in Tucker form.

    Raises:
        Unsupported: they do so already, no layer trains its weight, or ranks are too large.
    """
    layers = list(linear_layers(model))
    require_ranks_fit(model, [layer for layer in layers if layer.weight.requires_grad], choice)
    for layer in layers:
        extend(layer, LinearInSubspace, subspace=InputSubspace(choice))


def linear_layers(model: nn.Module) -> Iterator[Any]:
    """Yield the Linear layers of the blocks, except those of experts and those stored in parts."""
    for block in stored_blocks(model):
        parts = list(block.modules())
        mixtures = [part for part in parts if isinstance(part, ExpertMlp)]
        inside = {part for mixture in mixtures for part in mixture.modules()}
        for part in parts:
            whole = isinstance(part, nn.Linear) and not isinstance(part, StoredWeight)
            if whole and part not in inside:
                yield part


def require_ranks_fit(model: nn.Module, layers: list[Any], choice: RankChoice) -> None:
    """Check that a layer trains, and that the ranks of tokens and channels fit the largest input.

    Raises:
        Unsupported: no layer trains, or a rank is larger than the number of tokens or channels.
    """
    if not layers:
        raise Unsupported(
            "no Linear layer of the blocks trains its weight, so no layer stores its input"
        )
    if not choice.ranks:
        return
    widest = max(layer.in_features for layer in layers)
    if choice.ranks[CHANNELS] > widest:
        raise Unsupported(
            f"ranks {choice.ranks} keep {choice.ranks[CHANNELS]} channels, but the widest input of "
            f"a trained Linear layer has {widest}"
        )
    vit: Any = vision_transformer(model)
    tokens = vit.patch_embed.num_patches
    if tokens is not None and choice.ranks[TOKENS] > (most := tokens + vit.num_prefix_tokens):
        raise Unsupported(
            f"ranks {choice.ranks} keep {choice.ranks[TOKENS]} tokens, but the model has {most}"
        )


class LinearInSubspace(nn.Module):
    """A Linear layer that stores its input in Tucker form, and only if its weight trains."""

    subspace: InputSubspace

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, in] to [batch, tokens, out]."""
        layer: Any = self
        parts = isinstance(self, StoredWeight)  # making the weight whole is not free
        trains = torch.is_grad_enabled() and not parts and layer.weight.requires_grad
        if not trains or x.dim() != len(MODES) or stored_by_attention(x):
            plain: Tensor = super().forward(x)
            return plain
        output: Tensor = _Linear.apply(x, layer.weight, layer.bias, self.subspace.form(x))
        return output


def stored_by_attention(x: Tensor) -> bool:
    """Return whether x, of any shape, is a view of what fused attention stores: its output."""
    node = x.grad_fn
    while node is not None and node.name() in VIEWS:
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("ScaledDotProduct")


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, form: Tucker) -> Tensor:
        # Not attributes of ctx: autograd frees saved tensors as soon as backward has read them.
        ctx.save_for_backward(weight, form.core, *form.factors)
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        weight, core, *factors = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_weight = of_bias = None
        if needs_weight:
            form = Tucker(core, tuple(factors))
            of_weight = gradient_of_weight(gradient, form).to(weight.dtype)
        if needs_bias:
            of_bias = gradient.flatten(0, -2).sum(0).to(weight.dtype)
        of_x = gradient @ weight.to(gradient.dtype) if needs_x else None
        return of_x, of_weight, of_bias, None
