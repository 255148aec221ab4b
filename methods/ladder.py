"""LST, ladder side-tuning: a narrow network reads a frozen one, and only the narrow one trains."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import Branched, blocks, final_norm, head, tokens_read, width
from bsrbench.harness.torch_internals.eager_internals import with_positions
from bsrbench.methods.parts.extend_module import extend, require_unextended
from bsrbench.methods.parts.narrow_weights import fill
from bsrbench.methods.parts.new_modules import draw, new_block, place
from bsrbench.methods.parts.option_checks import check_at_least, check_blocks
from bsrbench.methods.parts.recomputed_gelu import recompute_gelu_of, require_plain
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

TEMPERATURE = 0.1  # of the gates; the paper, section 3.2, and the official code


@dataclass(frozen=True)
class LadderSideTuning(Method):
    """Train a narrow network beside the frozen one, which feeds it through gates, and the head.

    Beside each block stands one of 1 / ``reduction`` of its width. It gets
    g s + (1 - g) d(x): s of the narrow block before, x of the frozen block, d a Linear layer down
    to the narrow width, g = sigmoid(a / 0.1) with a learned and 0 at the start. The first s is the
    embedded tokens through a layer of its own; after the last narrow block come a norm, a Linear
    layer back up and the head. Stores the narrow blocks' activations and, since the layers down
    train, the frozen block's output for each, one [batch, tokens, dim] a rung. Approximates
    nothing in the backward pass, but the function trained is another one: what the model's own
    last norm says is not used. Does not save the forward pass, to which the side adds its own;
    the frozen blocks have no backward pass at all.

    The paper tunes language models and CLIP with one; for a plain vision transformer we chose:
    as many heads as the model has; the head trains and reads the class token alone; no dropout
    (the models' own, 0.1, in the paper); layers down, up and of narrow blocks that are not filled
    are drawn with standard deviation 0.02. ``prune`` fills narrow blocks with the frozen ones'
    strongest weights as "v2" of the official code does, by their magnitude; the paper's runs weigh
    them by Fisher information instead, which takes gradients on data before training. GELU's
    output is computed again instead of being stored. ``ladder+checkpoint``, ``ladder+int8`` and
    others that store activations act on the narrow blocks and the layers down to them, for nothing
    else is stored.

    Attributes:
        reduction: the model's width divided by the narrow one's; the paper: 8, or 4 with CLIP.
        skip: blocks without a narrow one, as the paper's layer dropping; the paper: none, or of 12
            (0, 4, 8) and more.
        prune: start narrow blocks from the model's weights; the paper: yes.
    """

    reduction: int = 8
    skip: tuple[int, ...] = ()
    prune: bool = True

    source = "Sung et al. 2022 (LST), arXiv:2206.06522, section 3; official code c09bf67"
    exact_forward = False
    # Its blocks are narrow: over eight draws of their weights int8 was off by 0.03 to 0.23.
    error_growth = 2.5
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def __post_init__(self) -> None:
        check_at_least("reduction", self.reduction, 1)
        check_blocks("skip", self.skip)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all but the head; put the narrow network beside it.

        Raises:
            Unsupported: the width cannot be divided so, or no block would be left.
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
                f"a width of {dim} over reduction {self.reduction} cannot be shared by {heads} "
                f"heads; a reduction of {', '.join(map(str, fitting))} can"
            )
        if set(self.skip) >= set(range(len(chain))):
            raise Unsupported(f"skip {self.skip} leaves none of the model's {len(chain)} blocks")
        if any(not isinstance(norm, nn.Identity) for norm in _norms_of_keys(chain)):
            raise Unsupported("norms of queries and keys are not known to this method")
        require_plain(chain, "narrow blocks are made after plain ones, not after experts or others")
        if self.prune and isinstance(_entry(model), nn.Identity):
            raise Unsupported(
                "the model's patches come out of its convolutions without a projection, by whose "
                "weights prune begins; set prune to false"
            )

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return those of narrow blocks, of the layers down to them, and of the one back up."""
        narrow = width // self.reduction
        counts = [count for index, count in enumerate(tokens) if index not in self.skip]
        down = (tokens[0] + sum(counts)) * width * narrow
        inside = sum(12 * narrow**2 * count + 2 * narrow * count**2 for count in counts)
        return down + inside + narrow * width


def _entry(model: Any) -> Any:
    """Return the projection that makes patches tokens."""
    return model.patch_embed.proj


def _norms_of_keys(chain: list[Any]) -> list[nn.Module]:
    return [norm for block in chain for norm in (block.attn.q_norm, block.attn.k_norm)]


class Ladder(nn.Module):
    """The narrow network.

    Attributes:
        blocks: narrow blocks, in order.
        norm: after the last of them.
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
    """A narrow block that mixes what the narrow network has with what the frozen block says."""

    down: nn.Linear
    gate: nn.Parameter

    def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
        """Map narrow [batch, tokens, narrow dim] and wide [batch, tokens, dim] to narrow ones."""
        narrow, wide = both
        share = (self.gate / TEMPERATURE).sigmoid()
        output: Tensor = super().forward(share * narrow + (1 - share) * self.down(wide))
        return output


class ReadsLadder(Branched):
    """A vision transformer that runs without gradient and whose ladder's output goes on."""

    branch: Ladder

    def forward_features(self, images: Tensor, **_: object) -> Tensor:
        """Return features [batch, tokens, dim]; of leading tokens alone if the head reads those."""
        vit: Any = self
        with torch.no_grad():
            x = vit.patch_drop(with_positions(vit, vit.patch_embed(images)))
            x = vit.norm_pre(x)
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
