"""VQT: learned queries summarise the features of each frozen block for the head."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.attention import queries_keys_values
from bsrbench.harness.model.vit import blocks, head, require_class_token, width
from bsrbench.harness.torch_internals.eager_internals import with_positions
from bsrbench.methods.parts.extend_module import extend, require_unextended
from bsrbench.methods.parts.new_modules import place
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only


@dataclass(frozen=True)
class VisualQueryTuning(Method):
    """Train a few query tokens for each frozen block, and a head that reads what they found.

    The queries of a block enter its attention as queries only: they attend to the block's tokens,
    and no token attends to them, so the features of the frozen model stay as they are. Their
    outputs, after attention and MLP, are cut off behind the block, scaled to length 1, and read by
    a new Linear layer, whose output is added to that of the head. Stores keys and values of each
    block, and what the gradient needs to pass one block for a few tokens. The gradient never passes
    from block to block. Approximates nothing in the backward pass, but the model computes a
    different function. Does not save the forward pass, to which the queries add a little. Queries
    are drawn as the prompts of ``prompt`` are; the new layer starts at 0, so training starts from
    the model's own head. Both are our choice, as is the number of queries. The paper then selects
    features by a group lasso, and trains again; this is not implemented.

    Attributes:
        queries: number of queries in each block.
    """

    queries: int = 10

    source = "Tu et al. 2023 (VQT), arXiv:2212.03220, section 3"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        check_at_least("queries", self.queries, 1)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; give queries to each block, and add a layer.

        Raises:
            Unsupported: the model has no class token that its head reads, or more than one head.
        """
        require_class_token(model)
        own = head(model)
        if not isinstance(own, nn.Linear):
            raise Unsupported(f"the head is a {type(own).__name__}; expected one Linear layer")
        require_all_train(model)
        require_unextended(model, self.name())
        train_only(model, [own])
        for block in blocks(model):
            extend(block, Summarised, queries=self._draw(model))
        read = len(blocks(model)) * self.queries * width(model)
        summary = nn.Linear(read, own.out_features, bias=False, **place(model))
        nn.init.zeros_(summary.weight)
        extend(model, ReadsSummaries, summary=summary)
        return model

    def _draw(self, vit: Any) -> nn.Parameter:
        patch_area = math.prod(vit.patch_embed.patch_size)
        most = math.sqrt(6 / (3 * patch_area + width(vit)))
        drawn = torch.empty(1, self.queries, width(vit), **place(vit))
        return nn.Parameter(drawn.uniform_(-most, most))

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the queries: their attention, and one block for each."""
        each = 9 * width**2
        return self.queries * sum(each + 2 * count * width for count in tokens)


class Summarised(nn.Module):
    """A block that also returns what its queries found."""

    queries: nn.Parameter

    def summarise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the frozen block without gradient.

        Args:
            x: [batch, tokens, dim].

        Returns:
            The block's output, [batch, tokens, dim], and the outputs of the queries, each of length
            1, [batch, queries, dim].
        """
        block: Any = self
        attention = block.attn
        asked = queries_keys_values(attention, attention.qkv(block.norm1(self.queries)))[0]
        with torch.no_grad():
            q, k, v = queries_keys_values(attention, attention.qkv(block.norm1(x)))
            mixed = F.scaled_dot_product_attention(q, k, v)
            output: Tensor = self._behind(x, mixed)
            # The storage of qkv would otherwise be kept with them.
            k, v = k.contiguous(), v.contiguous()
        found = F.scaled_dot_product_attention(asked.expand(x.shape[0], -1, -1, -1), k, v)
        return output, F.normalize(self._behind(self.queries, found), dim=-1)

    def _behind(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Return the block's output from its input and from the mixed values by head."""
        block: Any = self
        attention = block.attn
        joined = attention.norm(mixed.transpose(1, 2).flatten(2))
        x = x + block.drop_path1(block.ls1(attention.proj_drop(attention.proj(joined))))
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output


class ReadsSummaries(nn.Module):
    """A vision transformer whose head also reads what the queries of all blocks found."""

    summary: nn.Linear

    def forward(self, images: Tensor, **_: object) -> Tensor:
        """Return logits [batch, classes] of images [batch, 3, side, side]."""
        vit: Any = self
        with torch.no_grad():
            x = vit.norm_pre(vit.patch_drop(with_positions(vit, vit.patch_embed(images))))
        found = []
        for block in vit.blocks:
            x, of_block = block.summarise(x)
            found.append(of_block)
        with torch.no_grad():
            x = vit.norm(x)
        read = torch.stack(found, dim=1).flatten(1)
        logits: Tensor = vit.forward_head(x) + self.summary(read)
        return logits
