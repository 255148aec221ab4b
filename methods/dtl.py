"""DTL: train a thin low-rank network beside a frozen one; late blocks also read it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method, Unsupported
from bsrbench.harness.model.vit import (
    RunsBlocks,
    blocks,
    final_norm,
    head,
    vision_transformer,
    width,
)
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.frozen_embedding import embedded
from bsrbench.methods.parts.new_modules import place
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.token_dropping import require_all_tokens
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
    blocks, which store what it needs, as in ``bias``.

    Stores for the side network the input of each block, because it trains on it, and h after each
    block from ``first`` on; with ``plus`` also each s(h): one [batch, tokens, dim] each. In blocks
    above ``first`` the frozen norm shares the stored input. Approximates nothing in the
    backward pass, but the model computes a different function: as in the official code, the norm
    and the head read the mean of the patch tokens, and not the class token. Does not save the
    forward pass, to which the side network adds a little.

    As in the official code, the first of the two matrices is drawn as torch's Linear layers are,
    the second starts at 0, the final norm is frozen, and tokens before the patches are not
    convolved. The paper trains with stochastic depth of 0.1 in the frozen blocks; here it is the
    model's own, because the other methods have none. Compositions that change stored activations
    act on the frozen blocks; what the side network stores stays as it is.

    Attributes:
        rank: rank of the products; the paper: 2.
        first: the first block whose output is changed; the paper: 6 of 12, counted from 0.
        plus: also convolve s(h) over the grid of patches with one depth-wise 3 x 3 kernel that all
            blocks share (DTL+).
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
            Unsupported: the rank exceeds the width, the model has too few blocks, more than one
                head, or a head that reads something else than tokens or their mean; or with
                ``plus`` its patches have no grid.
        """
        self._require_fit(model)
        require_all_tokens(model)
        require_all_train(model)
        train_only(model, [head(model)])
        extend(model, ReadsSide, side=SideNetwork(model, self))
        return model

    def _require_fit(self, model: nn.Module) -> None:
        vit = vision_transformer(model)
        depth, dim = len(blocks(model)), width(model)
        if depth != PAPER_DEPTH and self.first == FIRST:
            raise Unsupported(
                f"the default first is the paper's choice for {PAPER_DEPTH} blocks; the model has "
                f"{depth}, so set first"
            )
        if self.first >= depth:
            raise Unsupported(f"first = {self.first}, but the model has only {depth} blocks")
        if self.rank > dim:
            raise Unsupported(f"rank {self.rank} is larger than the width {dim}")
        if getattr(vit, "dist_token", None) is not None:
            raise Unsupported("the model has two heads, but the mean of its patch tokens has one")
        if vit.global_pool not in {"token", "avg"}:
            raise Unsupported(
                f"the head reads {vit.global_pool!r}; this method is for a head that reads the "
                "class token or the mean of the tokens"
            )
        if self.plus:
            _require_grid(vit)

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the low-rank products, and of the convolutions."""
        products = sum(tokens) * 2 * width * self.rank
        if not self.plus:
            return products
        return products + NEIGHBOURS * width * sum(count - 1 for count in tokens[self.first :])


def _require_grid(vit: Any) -> None:
    """Check that the patch tokens are those of a grid, whose size follows from the images."""
    if not hasattr(vit.patch_embed, "dynamic_feat_size"):
        kind = type(vit.patch_embed).__name__
        raise Unsupported(f"plus convolves a grid of patches, but {kind} does not tell its size")
    if not isinstance(vit.patch_drop, nn.Identity):
        raise Unsupported("plus convolves a grid of patches, but this model drops patches")


class SideNetwork(nn.Module):
    """The side network.

    Attributes:
        down: the first matrix of each product.
        up: the second one.
        convolution: what all blocks share; ``None`` without a convolution.
    """

    def __init__(self, model: Any, options: DisentangledTransferLearning) -> None:
        super().__init__()
        where, dim, depth = place(model), width(model), len(blocks(model))
        rank = options.rank
        down = [nn.Linear(dim, rank, bias=False, **where) for _ in range(depth)]
        up = [nn.Linear(rank, dim, bias=False, **where) for _ in range(depth)]
        for layer in up:
            nn.init.zeros_(layer.weight)
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.first = options.first
        self.leading = model.num_prefix_tokens
        self.convolution = (
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False, **where)
            if options.plus
            else None
        )

    def product(self, index: int, x: Tensor) -> Tensor:
        """Return the low-rank product of a block's input x, both [batch, tokens, dim]."""
        output: Tensor = self.up[index](self.down[index](x))
        return output

    def gated(self, h: Tensor, grid: tuple[int, int] | None) -> Tensor:
        """Return what is added to a block's output.

        Args:
            h: [batch, tokens, dim].
            grid: height and width of the grid of patches; ``None`` without a convolution.

        Returns:
            [batch, tokens, dim].
        """
        output: Tensor = _Gate.apply(h)
        if self.convolution is None or grid is None:
            return output
        square = output[:, self.leading :].transpose(1, 2).unflatten(2, grid)
        mixed = self.convolution(square).flatten(2).transpose(1, 2)
        return torch.cat([output[:, : self.leading], mixed], dim=1)


class ReadsSide(RunsBlocks):
    """A vision transformer whose late blocks read a side network."""

    side: SideNetwork

    def forward_features(self, images: Tensor, **_: object) -> Tensor:
        """Return the tokens after the last block, [batch, tokens, dim], not normalised."""
        vit: Any = self
        side = self.side
        grid = vit.patch_embed.dynamic_feat_size(images.shape[-2:]) if side.convolution else None
        x = embedded(vit, images)
        h: Tensor | None = None
        for index, block in enumerate(vit.blocks):
            product = side.product(index, x)
            h = product if h is None else h + product
            with torch.set_grad_enabled(torch.is_grad_enabled() and index > side.first):
                x = block(x)
            if index >= side.first:
                x = x + side.gated(h, grid)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits [batch, classes] from tokens [batch, tokens, dim]."""
        vit: Any = self
        read: Tensor = vit.fc_norm(final_norm(vit)(x[:, vit.num_prefix_tokens :].mean(1)))
        read = vit.head_drop(read)
        return read if pre_logits else vit.head(read)


class _Gate(Function):
    """s(z) = z sigmoid(100 z); only z is stored.

    torch's SiLU would do, but a dispatch mode sees its derivative as other operators than those
    that run, so the meters would count tensors that do not exist.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (STEEPNESS * z).sigmoid_().mul_(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient of z [batch, tokens, dim]; that of s is g (1 + 100 z (1 - g))."""
        (z,) = ctx.saved_tensors
        open_ = (STEEPNESS * z).sigmoid_()
        slope: Tensor = (1 - open_).mul_(z).mul_(STEEPNESS).add_(1).mul_(open_)
        return slope.mul_(gradients[0])
