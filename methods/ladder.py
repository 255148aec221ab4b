"""LST, ladder side-tuning: train a narrow network that reads the features of a frozen one."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import Branched, blocks, final_norm, head, tokens_read, width
from bsrbench.methods.parts.extend_module import extend, require_unextended
from bsrbench.methods.parts.frozen_embedding import embedded
from bsrbench.methods.parts.narrow_weights import fill
from bsrbench.methods.parts.new_modules import draw, new_block, place
from bsrbench.methods.parts.option_checks import check_at_least, check_blocks
from bsrbench.methods.parts.recomputed_gelu import recompute_gelu_of, require_plain
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

TEMPERATURE = 0.1  # of the gates; the paper, section 3.2, and the official code


@dataclass(frozen=True)
class LadderSideTuning(Method):
    """Train a narrow side network, which reads the frozen model through gates, and the head.

    Each block has a narrow counterpart of 1 / ``reduction`` of its width. The input of the narrow
    block is g s + (1 - g) d(x): s is the output of the previous narrow block, x the output of the
    frozen block, d a Linear layer down to the narrow width, and g = sigmoid(a / 0.1) with a
    learned a that starts at 0. The first s is a projection of the embedded tokens. After the last
    narrow block follow a norm, a Linear layer back up and the head. Stores the activations of the
    narrow blocks and, because the down-projections train, the output of each frozen block, one
    [batch, tokens, dim] per block. Approximates nothing in the backward pass, but the model
    computes a different function: the output of the model's own final norm is not used. Does not
    save the forward pass, to which the side network adds its own; the frozen blocks have no
    backward pass.

    The paper tunes language models and CLIP with a language model. For a plain vision transformer
    we chose: as many heads as the model has; a trained head that reads only the class token; no
    dropout (the paper: the 0.1 of its models); projections, and narrow blocks that are not filled,
    are initialised with standard deviation 0.02. ``prune`` fills narrow blocks with the frozen
    weights of largest magnitude, as "v2" of the official code does; the paper's experiments rank
    weights by Fisher information, which needs gradients on data before training. The output of
    GELU is recomputed instead of stored. ``ladder+checkpoint``, ``ladder+int8`` and other
    compositions that change stored activations act on the narrow blocks and the down-projections,
    because nothing else is stored.

    Attributes:
        reduction: the model's width divided by the narrow width; the paper: 8, or 4 with CLIP.
        skip: blocks without a narrow block, as in the paper's layer dropping; the paper: none, or
            of 12 blocks (0, 4, 8) and more.
        prune: initialise narrow blocks from the model's weights; the paper: yes.
    """

    reduction: int = 8
    skip: tuple[int, ...] = ()
    prune: bool = True

    source = "Sung et al. 2022 (LST), arXiv:2206.06522, section 3; official code c09bf67"
    exact_forward = False
    # The blocks are narrow: over eight random draws of their weights, the gradient error of int8
    # was 0.03 to 0.23.
    error_growth = 2.5
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def __post_init__(self) -> None:
        check_at_least("reduction", self.reduction, 1)
        check_blocks("skip", self.skip)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; add the narrow network.

        Raises:
            Unsupported: the reduction does not fit the width, or no block is left.
        """
        require_all_train(model)
        self._require_fit(model)
        require_unextended(model, self.name())
        train_only(model, [head(model)])
        extend(model, ReadsLadder, branch=Ladder(model, self))
        return model

    def _require_fit(self, model: nn.Module) -> None:
        chain = blocks(model)
        dim, heads = width(model), chain[0].attn.num_heads
        if dim % (self.reduction * heads):
            fitting = [n for n in range(1, dim // heads + 1) if dim % (n * heads) == 0]
            raise Unsupported(
                f"width {dim} / reduction {self.reduction} is not divisible by {heads} heads; "
                f"possible reductions: {', '.join(map(str, fitting))}"
            )
        if set(self.skip) >= set(range(len(chain))):
            raise Unsupported(
                f"skip {self.skip} leaves no block of the model's {len(chain)} blocks"
            )
        if any(not isinstance(norm, nn.Identity) for norm in _norms_of_keys(chain)):
            raise Unsupported("this method does not support norms of queries and keys")
        require_plain(
            chain, "narrow blocks can be built only for blocks with a plain MLP, not for experts"
        )
        if self.prune and isinstance(_entry(model), nn.Identity):
            raise Unsupported(
                "prune needs a linear patch projection, and this model's convolutions have none; "
                "set prune to false"
            )

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the narrow blocks and of the projections down and up."""
        narrow = width // self.reduction
        counts = [count for index, count in enumerate(tokens) if index not in self.skip]
        down = (tokens[0] + sum(counts)) * width * narrow
        inside = sum(12 * narrow**2 * count + 2 * narrow * count**2 for count in counts)
        return down + inside + narrow * width


def _entry(model: Any) -> Any:
    """Return the projection of patches to tokens."""
    return model.patch_embed.proj


def _norms_of_keys(chain: list[Any]) -> list[nn.Module]:
    return [norm for block in chain for norm in (block.attn.q_norm, block.attn.k_norm)]


class Ladder(nn.Module):
    """The narrow network.

    Attributes:
        blocks: the narrow blocks, in order.
        norm: the norm after the last narrow block.
    """

    def __init__(self, model: Any, options: LadderSideTuning) -> None:
        super().__init__()
        chain, where = blocks(model), place(model)
        dim = width(model)
        narrow = dim // options.reduction
        hidden = chain[0].mlp.fc1.out_features // options.reduction
        self.rungs = [index for index in range(len(chain)) if index not in options.skip]
        made = {index: new_block(chain[index], width=narrow, hidden=hidden) for index in self.rungs}
        self.enter = nn.Linear(dim, narrow, **where)
        self.norm = nn.LayerNorm(narrow, eps=chain[0].norm1.eps, **where)
        self.leave = nn.Linear(narrow, dim, **where)
        if options.prune:
            fill(made, chain, _entry(model).weight, (self.norm, final_norm(model)))
        for block in made.values():
            gate = nn.Parameter(torch.zeros(1, **where))
            extend(block, Rung, down=nn.Linear(dim, narrow, **where), gate=gate)
            recompute_gelu_of(block)
        for layer in (self.enter, self.leave, *(block.down for block in made.values())):
            draw(layer)
        self.blocks = nn.ModuleList(made.values())


class Rung(nn.Module):
    """A narrow block that mixes the narrow features with the output of the frozen block."""

    down: nn.Linear
    gate: nn.Parameter

    def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
        """Map narrow [batch, tokens, narrow dim] and wide [batch, tokens, dim] to narrow tokens."""
        narrow, wide = both
        share = (self.gate / TEMPERATURE).sigmoid()
        output: Tensor = super().forward(share * narrow + (1 - share) * self.down(wide))
        return output


class ReadsLadder(Branched):
    """A vision transformer that runs without gradient and returns the ladder's features."""

    branch: Ladder

    def forward_features(self, images: Tensor, **_: object) -> Tensor:
        """Return features [batch, tokens, dim]; only leading ones if the head reads only these."""
        vit: Any = self
        x = embedded(vit, images)
        side = self.branch.enter(x)
        rungs = dict(zip(self.branch.rungs, self.branch.blocks, strict=True))
        for index, block in enumerate(vit.blocks):
            with torch.no_grad():
                x = block(x)
            if index in rungs:
                side = rungs[index]((side, x))
        if vit.global_pool == "token":
            side = side[:, : tokens_read(self)]
        features: Tensor = self.branch.leave(self.branch.norm(side))
        return features
