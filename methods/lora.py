"""LoRA: low-rank updates of the attention's projections, by the peft library."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from harness.method import Kind, Method, Unsupported
from harness.vit import blocks, head


@dataclass(frozen=True)
class LowRankAdaptation(Method):
    """Train a low-rank update beside frozen attention weights, and the head.

    Stores the adapted layers' inputs and all that lies on the gradient's way to the first block,
    as BitFit does, so it saves parameters and optimizer state rather than activations.
    Approximates nothing. timm keeps q, k and v in one layer: one update of rank ``rank`` serves
    the three, where the paper adapts q and v apart.

    Attributes:
        targets: names of the block's Linear layers to adapt; the paper's choice is the attention.
        rank: inner dimension of the update; vision papers use 4 to 16.
        alpha: the update is scaled by alpha / rank.
    """

    targets: tuple[str, ...] = ("qkv",)
    rank: int = 8
    alpha: int = 16

    source = "Hu et al. 2022 (LoRA), arXiv:2106.09685, section 4"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        choices = {"qkv", "proj", "fc1", "fc2"}
        if not self.targets or not set(self.targets) <= choices:
            raise ValueError(f"targets {self.targets} must be some of {sorted(choices)}")
        if self.rank < 1:
            raise ValueError(f"rank {self.rank} must be at least 1")
        if self.alpha < 1:
            raise ValueError(f"alpha {self.alpha} must be at least 1")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put peft's layers around the targets of every block.

        Raises:
            Unsupported: peft is not installed, or the model is adapted already.
        """
        try:
            from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra, slow
        except ImportError as error:
            raise Unsupported("peft is not installed: pip install 'bsrbench[lora]'") from error
        blocks(model)  # a plain vision transformer, or Unsupported
        if any("lora_" in name for name, _ in model.named_parameters()):
            raise Unsupported("the model already has LoRA layers")
        layers = rf"blocks\..*\.({'|'.join(self.targets)})"
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=layers)
        adapted: nn.Module = inject_adapter_in_model(config, model)  # freezes all but the updates
        head(adapted).requires_grad_(True)
        return adapted
