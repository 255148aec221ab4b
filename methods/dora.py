"""DoRA: LoRA with a separately learned magnitude of the adapted weights, by the peft library."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head
from bsrbench.methods.parts.adapters import adapt, check_adapters
from bsrbench.methods.parts.trained_parameters import require_all_train


@dataclass(frozen=True)
class WeightDecomposedAdaptation(Method):
    """Train low-rank updates of frozen attention weights, the norms of these weights, and the head.

    Stores the inputs of the adapted layers, two additional copies of their outputs (from the
    frozen weights and from the update, for the gradient of the norms), and all that the gradient
    needs to reach the first block: more than full fine-tuning holds between forward and backward.
    Approximates the gradient as the paper does, which treats the norm of the updated weights as a
    constant: the relative error is a few hundredths at the start and up to 0.3 later, as the
    update grows. Does not save activations or the backward pass, only gradients and optimizer
    state. timm has q, k and v in one layer, so one update of rank ``rank`` is shared by the three,
    with one norm per output; the paper adapts them separately. peft reads the types of parameters
    in a way that torch.compile cannot trace, so the model does not compile into one graph.

    Attributes:
        targets: Linear layers of a block to adapt, from qkv, proj, fc1, fc2; the paper: q, k, v
            and both layers of the MLP of language models.
        rank: inner dimension of the update; the paper: 4 to 64.
        alpha: the update is scaled by alpha / rank; the paper: twice the rank.
    """

    targets: tuple[str, ...] = ("qkv",)
    rank: int = 8
    alpha: int = 16

    source = "Liu et al. 2024 (DoRA), arXiv:2402.09353, section 4"
    exact_forward = True
    gradient_error = 0.1  # at the start of training
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    saves_over_full = False

    def __post_init__(self) -> None:
        check_adapters(self.targets, self.rank, self.alpha)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Adapt the targets of every block with peft; freeze everything else except the head.

        Raises:
            Unsupported: peft cannot be loaded, or the model is already prepared.
        """
        chain = blocks(model)
        require_all_train(model)
        options = {"rank": self.rank, "alpha": self.alpha}
        adapt(model, range(len(chain)), self.targets, magnitudes=True, **options)
        head(model).requires_grad_(True)
        return model
