"""DoRA: LoRA with the magnitude of the adapted weights learned apart, by the peft library."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head
from bsrbench.methods.parts.adapters import adapt, check_adapters
from bsrbench.methods.parts.trained_parameters import require_all_train


@dataclass(frozen=True)
class WeightDecomposedAdaptation(Method):
    """Train a low-rank update of the direction of frozen attention weights, their norms, the head.

    Stores the adapted layers' inputs, their outputs twice more (those of the frozen weights and
    those of the update, for the gradient of the norms) and all that lies on the gradient's way to
    the first block: more than full fine-tuning holds between forward and backward. Approximates
    the gradient as the paper does, which takes the norm of the updated weights for a constant: a
    few hundredths off at the start, up to 0.3 later, as the update grows. Does not save
    activations or the backward pass, only gradients and optimizer state. timm keeps q, k and v in
    one layer: one update of rank ``rank`` serves the three, each output with a norm of its own,
    where the paper adapts them apart. peft asks for parameters' types in a way that torch.compile
    cannot follow, so it is not compiled in one piece.

    Attributes:
        targets: Linear layers of a block to adapt, some of qkv, proj, fc1, fc2; the paper: q, k, v
            and both layers of the MLP of language models.
        rank: inner dimension of the update; the paper: 4 to 64.
        alpha: the update is scaled by alpha / rank; the paper: twice the rank.
    """

    targets: tuple[str, ...] = ("qkv",)
    rank: int = 8
    alpha: int = 16

    source = "Liu et al. 2024 (DoRA), arXiv:2402.09353, section 4"
    exact_forward = True
    gradient_error = 0.1  # at the start
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    saves_over_full = False

    def __post_init__(self) -> None:
        check_adapters(self.targets, self.rank, self.alpha)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put peft's layers around the targets of every block; freeze all else but the head.

        Raises:
            Unsupported: peft cannot be loaded, or the model is prepared already.
        """
        chain = blocks(model)
        require_all_train(model)
        options = {"rank": self.rank, "alpha": self.alpha}
        adapt(model, range(len(chain)), self.targets, magnitudes=True, **options)
        head(model).requires_grad_(True)
        return model
