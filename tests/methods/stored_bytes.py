"""How many bytes a forward pass stores for the backward pass."""

from torch import Tensor, nn

from bsrbench.harness.meters.live_bytes import Category, LiveBytes

NUMBER = 4  # bytes in fp32


def stored_bytes(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass leaves behind for the backward pass, without logits.

    Args:
        model: a model that is ready for training.
        images: [batch, channels, height, width].
    """
    with LiveBytes() as live:
        live.watch([*model.parameters(), images], Category.INPUTS)
        before = live.now
        logits = model(images)
        left: int = live.now - before
    return left - logits.nbytes


def traversed_block(
    tokens: int, passed_on: int | None = None, dim: int = 32, heads: int = 4
) -> int:
    """Return the numbers that a frozen block stores for one image so that a gradient can pass.

    The norm before attention stores its input and two statistics per token; attention queries,
    keys and values, its output and one sum per head and token; the norm before the MLP as the
    first one; GELU its input, four times as wide.

    Args:
        tokens: number of tokens in attention.
        passed_on: number of tokens in the MLP; ``None`` if it is the same.
        dim: width of the block.
        heads: number of heads.
    """
    after = tokens if passed_on is None else passed_on
    return tokens * (5 * dim + heads + 2) + after * (5 * dim + 2)
