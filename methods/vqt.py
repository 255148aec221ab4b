"""VQT: learned queries summarise the features of each frozen block for the head."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.attention import mix, queries_keys_values
from bsrbench.harness.model.vit import RunsBlocks, blocks, head, width
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.frozen_embedding import embedded
from bsrbench.methods.parts.new_modules import draw, draw_prompts, place
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.token_dropping import require_all_tokens
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only


@dataclass(frozen=True)
class VisualQueryTuning(Method):
    """Train a few query tokens for each frozen block, and a head that reads what they found.

    The queries of a block enter its attention as queries only: they attend to the block's tokens,
    and no token attends to them, so the features of the frozen model stay as they are. Their
    outputs, after attention and MLP, are cut off behind the block. The outputs of a block together,
    and the features that the head reads, are each scaled to length 1, and one linear layer reads
    all of them: the head, and a new Linear layer without bias whose output is added.

    Stores keys and values of each block, two [batch, tokens, dim], and what the gradient needs to
    pass this block for the queries alone. The gradient never passes from block to block.
    Approximates nothing in the backward pass, but the model computes a different function, because
    features are scaled to length 1. Does not save the forward pass, to which the queries add a
    little. ``vqt+checkpoint`` stores the input of a block instead of keys and values. Other
    compositions that change stored activations act on what is stored for the queries.

    Queries are drawn as the prompts of ``prompt`` are, and the new layer as the head of a timm
    model. The official code has dropout of 0.1 on the queries in its scripts; it is omitted,
    because no other method here has one. The paper also selects features by a group lasso, and
    trains again; this is not implemented, nor are the official code's other ways to combine
    features.

    Attributes:
        queries: number of queries in each block; the scripts of the official code: 1, 10 or 20,
            depending on the data.
    """

    queries: int = 10

    source = "Tu et al. 2023 (VQT), arXiv:2212.03220, section 3; official code b5de9a6"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        check_at_least("queries", self.queries, 1)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; give queries to each block, and add a layer.

        Raises:
            Unsupported: the model does not have exactly one head, a Linear layer.
        """
        chain, own = blocks(model), head(model)
        if not isinstance(own, nn.Linear):
            raise Unsupported(
                f"the head is a {type(own).__name__}; this method adds to the logits of one Linear "
                "layer"
            )
        require_all_tokens(model)
        require_all_train(model)
        train_only(model, [own])
        for block in chain:
            extend(block, Summarised, inside=True, queries=draw_prompts(model, self.queries))
        read = len(chain) * self.queries * width(model)
        summary = nn.Linear(read, own.out_features, bias=False, **place(model))
        draw(summary)
        extend(model, ReadsSummaries, summary=summary)
        return model

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the queries: attention, its last layer, and the MLP.

        The queries are projected once for all images, which is left out.
        """
        each = 9 * width**2
        return self.queries * sum(each + 2 * count * width for count in tokens)


class Summarised(nn.Module):
    """A block that also returns what its queries found."""

    queries: nn.Parameter

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the frozen block without gradient, and its queries with gradient.

        Args:
            x: [batch, tokens, dim].

        Returns:
            The block's output, [batch, tokens, dim], and the outputs of the queries, which together
            have length 1, [batch, queries x dim].
        """
        block: Any = self
        attention = block.attn
        with torch.no_grad():
            attended, k, v = self._attend_frozen(x)
            output = self._feed(attended)
        asked = queries_keys_values(attention, attention.qkv(block.norm1(self.queries)))[0]
        drops = attention.training and isinstance(attention.attn_drop, nn.Dropout)
        mixed = F.scaled_dot_product_attention(
            asked.expand(x.shape[0], -1, -1, -1),
            k,
            v,
            dropout_p=attention.attn_drop.p if drops else 0.0,
        )
        found = self._feed(self._add(self.queries, mixed.transpose(1, 2).flatten(2)))
        return output, F.normalize(found.flatten(1), dim=1)

    def _attend_frozen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens behind attention, [batch, tokens, dim], and keys and values by head."""
        block: Any = self
        qkv = block.attn.qkv(block.norm1(x))
        mixed, _ = mix(block.attn, qkv, ranked=False, exact=False)
        _, k, v = queries_keys_values(block.attn, qkv)
        # Views would keep the queries of all tokens.
        return self._add(x, mixed), k.contiguous(), v.contiguous()

    def _add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add to x what attention returns for the mixed values; all are [batch, tokens, dim]."""
        block: Any = self
        attention = block.attn
        attended = attention.proj_drop(attention.proj(attention.norm(mixed)))
        output: Tensor = x + block.drop_path1(block.ls1(attended))
        return output

    def _feed(self, x: Tensor) -> Tensor:
        """Add to x what the MLP returns, both [batch, tokens, dim]."""
        block: Any = self
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output


class ReadsSummaries(RunsBlocks):
    """A vision transformer whose head also reads what the queries of all blocks found."""

    summary: nn.Linear

    def forward(self, images: Tensor, **_: object) -> Tensor:
        """Return logits [batch, classes] of images [batch, channels, height, width]."""
        vit: Any = self
        x = embedded(vit, images)
        found = []
        for block in vit.blocks:
            x, of_block = block(x)
            found.append(of_block)
        with torch.no_grad():
            features = F.normalize(vit.forward_head(vit.norm(x), pre_logits=True), dim=1)
        logits: Tensor = vit.head(features) + self.summary(torch.cat(found, dim=1))
        return logits
