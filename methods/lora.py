"""LoRA: low-rank updates of the attention's projections, by the peft library."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import blocks, head
from bsrbench.methods.parts.adapters import adapt, check_adapters
from bsrbench.methods.parts.trained_parameters import require_all_train


@dataclass(frozen=True)
class LowRankAdaptation(Method):
    """Train low-rank updates of frozen attention weights, and the head.

    Stores the inputs of the adapted layers and, as BitFit does, all that the gradient needs to
    reach the first block; it saves gradients and optimizer state rather than activations.
    Approximates nothing. Does not save the backward pass through all blocks. timm has q, k and v
    in one layer, so one update of rank ``rank`` is shared by the three: k is adapted too, and the
    three share A; the paper adapts q and v separately. There is no dropout before A.

    ``bsr+lora`` means: adapters in the blocks that BSR would train, while their own weights are
    frozen; final norm and head train, and tokens are dropped as in BSR. ``evit+lora`` means: the
    same weights train as in ``lora``, and tokens are dropped as in ``evit``.

    Attributes:
        targets: Linear layers of a block to adapt, from qkv, proj, fc1, fc2; the paper: q and
            v of the attention.
        rank: inner dimension of the update; the paper: 1 to 64, vision papers 4 to 16.
        alpha: the update is scaled by alpha / rank; the paper: the first rank tried; here twice
            the default rank, as is usual with peft.
    """

    targets: tuple[str, ...] = ("qkv",)
    rank: int = 8
    alpha: int = 16

    source = "Hu et al. 2022 (LoRA), arXiv:2106.09685, section 4"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True
    refines: ClassVar = frozenset({"bsr", "evit"})

    def __post_init__(self) -> None:
        check_adapters(self.targets, self.rank, self.alpha)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Adapt the targets of every block with peft; freeze everything else except the head.

        Raises:
            Unsupported: peft cannot be loaded, or the model is already prepared.
        """
        chain = blocks(model)
        require_all_train(model)
        adapt(model, range(len(chain)), self.targets, rank=self.rank, alpha=self.alpha)
        head(model).requires_grad_(True)
        return model

    def refine(self, model: nn.Module) -> nn.Module:
        """Adapt the blocks that train with peft, and freeze their own weights.

        If all parameters train, nothing else but the head trains afterwards.

        Raises:
            Unsupported: no block trains.
        """
        if all(parameter.requires_grad for parameter in model.parameters()):
            return self.prepare(model)
        chain = blocks(model)
        chosen = [i for i, block in enumerate(chain) if _trained(block)]
        if not chosen:
            raise Unsupported("no block trains, so there is no block to adapt")
        in_blocks = {parameter for block in chain for parameter in block.parameters()}
        beside = [parameter for parameter in _trained(model) if parameter not in in_blocks]
        adapt(model, chosen, self.targets, rank=self.rank, alpha=self.alpha)
        for parameter in beside:
            parameter.requires_grad_(True)
        return model


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
