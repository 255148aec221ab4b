"""Put peft's low-rank adapters around Linear layers of a vision transformer's blocks."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import ExpertMlp
from bsrbench.harness.model.vit import blocks
from bsrbench.methods.parts.option_checks import check_at_least

TARGETS = ("qkv", "proj", "fc1", "fc2")  # the Linear layers of a block


def check_adapters(targets: tuple[str, ...], rank: int, alpha: int) -> None:
    """Check the options of low-rank adapters.

    Raises:
        ValueError: a target is not a Linear layer of a block or is given twice, or ``rank`` or
            ``alpha`` is less than 1.
    """
    if not targets or not set(targets) <= set(TARGETS) or len(set(targets)) < len(targets):
        raise ValueError(f"targets {targets} must be some of {sorted(TARGETS)}, each once")
    check_at_least("rank", rank, 1)
    check_at_least("alpha", alpha, 1)


def adapt(
    model: nn.Module,
    chosen: Iterable[int],
    targets: tuple[str, ...],
    *,
    rank: int,
    alpha: int,
    magnitudes: bool = False,
) -> None:
    """Add adapters to layers of the chosen blocks; freeze every other parameter.

    Args:
        model: a plain vision transformer.
        chosen: indices of the blocks, counted from 0.
        targets: names of the Linear layers to adapt in these blocks.
        rank: inner dimension of the update.
        alpha: the update is scaled by alpha / rank.
        magnitudes: also learn the norm of the weights of each output, as DoRA does.

    Raises:
        Unsupported: peft cannot be loaded, a target is a layer of experts, or a block does not have
            a target.
    """
    numbers = list(chosen)
    _require_targets({index: blocks(model)[index] for index in numbers}, targets)
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra, slow
    except ImportError as error:
        advice = "pip install --upgrade 'bsrbench[lora]'"
        raise Unsupported(f"peft cannot be loaded ({error}): {advice}") from error
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=rf"blocks\.({'|'.join(map(str, numbers))})\..*\.({'|'.join(targets)})",
        use_dora=magnitudes,
    )
    inject_adapter_in_model(config, model)


def _require_targets(chosen: dict[int, Any], targets: tuple[str, ...]) -> None:
    """Check that each block has every target. peft ignores a missing target without an error.

    Raises:
        Unsupported: a block does not have a target, or has experts instead.
    """
    mixed = [index for index, block in chosen.items() if isinstance(block.mlp, ExpertMlp)]
    if mixed and (inside := sorted({"fc1", "fc2"} & set(targets))):
        raise Unsupported(
            f"{' and '.join(inside)} of blocks {mixed} are layers of experts, which peft cannot "
            "adapt"
        )
    for index, block in chosen.items():
        parts = block.named_modules()
        linear = {name.rpartition(".")[2] for name, part in parts if isinstance(part, nn.Linear)}
        if missing := [target for target in targets if target not in linear]:
            present = [target for target in TARGETS if target in linear]
            raise Unsupported(
                f"targets names {', '.join(missing)}, but block {index} has no Linear layer "
                f"of this name; it has {', '.join(present)}"
            )
