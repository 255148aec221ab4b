"""DTL: train a thin low-rank network beside a frozen one; late blocks also read it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import blocks, final_norm, head, require_class_token, width
from bsrbench.harness.torch_internals.eager_internals import with_positions
from bsrbench.methods.parts.extend_module import extend, require_unextended
from bsrbench.methods.parts.new_modules import place
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

STEEPNESS = 100.0  # of the gate; the official code
FIRST = 6  # of 12 blocks
NEIGHBOURS = 9  # of a depth-wise 3 x 3 convolution


@dataclass(frozen=True)
class DisentangledTransferLearning(Method):
    """Train a low-rank side network, which late blocks of the frozen model also read, and the head.

    The side network has one tensor h, [batch, tokens, dim], which starts at 0. Before each block, a
    product of two matrices of rank ``rank`` maps the block's input, and is added to h. After each
    block from ``first`` on, s(h) is added to the block's output, with s(z) = z sigmoid(100 z).
    Blocks up to ``first`` have no backward pass. Above it the gradient passes through the frozen
    blocks, which store what it needs, as in ``bias``. Stores for the side network the input of each
    block, because it trains on it, and h after each block from ``first`` on. The sigmoid is
    computed again instead of stored. Approximates nothing in the backward pass, but the model
    computes a different function: as in the official code, the head reads the mean of the patch
    tokens after the norm, and not the class token. Does not save the forward pass. Of the two
    matrices the first is drawn as torch's Linear layers, the second starts at 0.

    The head and the side network train. The final norm stays frozen, which is our choice.

    Attributes:
        rank: rank of the products; the paper: 2.
        first: the first block whose output is changed; the paper: 6 of 12, counted from 0.
        plus: also convolve s(h) over the grid of patches with one depth-wise 3 x 3 kernel that all
            blocks share (DTL+). The class token is not convolved.
    """

    rank: int = 2
    first: int = FIRST
    plus: bool = False

    source = "Fu et al. 2024 (DTL), arXiv:2312.07856; official code bf6c51e"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        check_at_least("rank", self.rank, 1)
        check_at_least("first", self.first, 0)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; add the side network.

        Raises:
            Unsupported: the rank exceeds the width, the model has too few blocks, or no class token.
        """
        require_class_token(model)
        depth, dim = len(blocks(model)), width(model)
        if self.first >= depth:
            raise Unsupported(f"first = {self.first}, but the model has only {depth} blocks")
        if self.rank > dim:
            raise Unsupported(f"rank {self.rank} is larger than the width {dim}")
        require_all_train(model)
        require_unextended(model, self.name())
        train_only(model, [head(model)])
        extend(model, ReadsSide, side=Side(model, self))
        return model

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the low-rank products, and of the convolutions."""
        products = sum(tokens) * 2 * width * self.rank
        if not self.plus:
            return products
        return products + NEIGHBOURS * width * sum(count - 1 for count in tokens[self.first :])


class Side(nn.Module):
    """The side network.

    Attributes:
        down: the first matrix of each product.
        up: the second one.
        convolution: what all blocks share; ``None`` without a convolution.
    """

    def __init__(self, model: Any, options: DisentangledTransferLearning) -> None:
        super().__init__()
        where, dim, depth = place(model), width(model), len(blocks(model))
        self.down = nn.ModuleList(
            nn.Linear(dim, options.rank, bias=False, **where) for _ in range(depth)
        )
        self.up = nn.ModuleList(
            nn.Linear(options.rank, dim, bias=False, **where) for _ in range(depth)
        )
        for layer in self.up:
            nn.init.zeros_(layer.weight)
        self.first = options.first
        self.grid = model.patch_embed.grid_size
        self.convolution = (
            nn.Conv2d(dim, dim, 3, padding="same", groups=dim, bias=False, **where)
            if options.plus
            else None
        )

    def product(self, index: int, x: Tensor) -> Tensor:
        """Return the low-rank product of a block's input x, both [batch, tokens, dim]."""
        output: Tensor = self.up[index](self.down[index](x))
        return output

    def gated(self, h: Tensor) -> Tensor:
        """Return what is added to a block's output, [batch, tokens, dim] as h."""
        output: Tensor = _Gate.apply(h)
        if self.convolution is None:
            return output
        leading, patches = output[:, :1], output[:, 1:]
        square = patches.transpose(1, 2).unflatten(2, self.grid)
        mixed = self.convolution(square).flatten(2).transpose(1, 2)
        return torch.cat([leading, mixed], dim=1)


class ReadsSide(nn.Module):
    """A vision transformer whose late blocks read a side network."""

    side: Side

    def forward_features(self, images: Tensor, **_: object) -> Tensor:
        """Return the tokens after the last block, [batch, tokens, dim], not normalised."""
        vit: Any = self
        with torch.no_grad():
            x = vit.norm_pre(vit.patch_drop(with_positions(vit, vit.patch_embed(images))))
        h: Tensor | None = None
        for index, block in enumerate(vit.blocks):
            added = self.side.product(index, x)
            h = added if h is None else h + added
            with torch.set_grad_enabled(torch.is_grad_enabled() and index > self.side.first):
                x = block(x)
            if index >= self.side.first:
                x = x + self.side.gated(h)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        """Return logits [batch, classes] from tokens [batch, tokens, dim]."""
        vit: Any = self
        read: Tensor = vit.fc_norm(final_norm(vit)(x[:, vit.num_prefix_tokens :].mean(1)))
        read = vit.head_drop(read)
        return read if pre_logits else vit.head(read)


class _Gate(Function):
    """s(z) = z sigmoid(100 z); only z is stored."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z * torch.sigmoid(STEEPNESS * z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        open_ = torch.sigmoid(STEEPNESS * z)
        slope = open_ + STEEPNESS * z * open_ * (1 - open_)
        return gradients[0] * slope
