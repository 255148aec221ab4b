"""The paper convention: training memory computed by the rules of TinyTL's profiler."""

import re
from dataclasses import dataclass
from typing import Any

from timm.layers import Mlp, PatchEmbed
from torch import nn

from bsrbench.harness.composition import has_own_loss
from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.stored_weight import PREFIX, parameter_numbers, stored_weights
from bsrbench.harness.model.vit import vision_transformer

ACTIVATION_BYTES = 4  # fp32, for every precision of the trial
TRAINED_PARAMETER_BYTES = 4
FROZEN_PARAMETER_BYTES = 1  # the convention's claim: frozen weights could be kept in 8 bits

FREE = (nn.Identity, nn.Dropout, nn.Softmax)  # do not count towards the peak and store nothing
NORM = (nn.LayerNorm, nn.Identity)

# The module types that the rules cover, by their place in timm's plain vision transformer.
PLACES: dict[str, tuple[type[nn.Module], ...]] = {
    "": (nn.Module,),
    "patch_embed": (PatchEmbed,),
    "patch_embed.proj": (nn.Conv2d,),
    "patch_embed.norm": FREE,
    "pos_drop": FREE,
    "patch_drop": FREE,
    "norm_pre": NORM,
    "blocks": (nn.Sequential,),
    "blocks.*": (nn.Module,),
    "blocks.*.norm1": NORM,
    "blocks.*.attn": (nn.Module,),
    "blocks.*.attn.qkv": (nn.Linear,),
    "blocks.*.attn.q_norm": FREE,
    "blocks.*.attn.k_norm": FREE,
    "blocks.*.attn.attn_drop": FREE,
    "blocks.*.attn.norm": FREE,
    "blocks.*.attn.proj": (nn.Linear,),
    "blocks.*.attn.proj_drop": FREE,
    "blocks.*.ls1": FREE,
    "blocks.*.drop_path1": FREE,
    "blocks.*.norm2": NORM,
    "blocks.*.mlp": (Mlp,),
    "blocks.*.mlp.fc1": (nn.Linear,),
    "blocks.*.mlp.act": (nn.GELU,),
    "blocks.*.mlp.drop1": FREE,
    "blocks.*.mlp.norm": FREE,
    "blocks.*.mlp.fc2": (nn.Linear,),
    "blocks.*.mlp.drop2": FREE,
    "blocks.*.ls2": FREE,
    "blocks.*.drop_path2": FREE,
    "norm": NORM,
    "fc_norm": FREE,
    "head_drop": FREE,
    "head": (nn.Linear,),
}
PARAMETERS = ("weight", "bias", "cls_token", "pos_embed")


class Undefined(Exception):  # noqa: N818 - becomes the reason of a missing value
    """The convention has no rule for this model or method; the message says where."""


def paper_convention_bytes(model: nn.Module, method: Method, images: int) -> int:
    """Return the training memory in bytes by the convention of the papers from TinyTL to BSR.

    It is ``images`` times the peak activations of one image in fp32, plus 4 B per trained and 1 B
    per frozen parameter. Gradients and optimizer state are not included. Attention matrices are
    included, even if a fused kernel runs. The rules come from TinyTL, and are those of the memory
    profiler in BSR's official code.

    Args:
        model: the prepared model; only shapes and ``requires_grad`` are read.
        method: the method that prepared it.
        images: number of images in one forward pass.

    Raises:
        Undefined: the convention has no rule for the model or the method.
    """
    vit = _defined(model, method)
    return images * ACTIVATION_BYTES * _peak_elements(vit, method) + sum(
        count * (TRAINED_PARAMETER_BYTES if trains else FROZEN_PARAMETER_BYTES)
        for count, trains in parameter_numbers(model)
    )


def _defined(model: nn.Module, method: Method) -> Any:
    """Return the model if there is a rule for all its parts.

    Raises:
        Undefined: a part has no rule.
    """
    if Kind.ESTIMATES_GRADIENT in method.kinds:
        raise Undefined("the convention has no rule for a method without a backward pass")
    if has_own_loss(method):
        raise Undefined("the convention has no rule for a loss that is not the cross-entropy")
    if Kind.STORES_ACTIVATIONS in method.kinds:
        raise Undefined("the convention has no rule for compressed or recomputed activations")
    try:
        vit: Any = vision_transformer(model)
    except Unsupported as error:
        raise Undefined(f"the convention is for plain vision transformers: {error}") from error
    _require_one_class_token(vit)
    _require_lines_for_all(vit)
    if vit.patch_embed.img_size is None:
        raise Undefined("the model has no fixed image size, so its activations cannot be counted")
    return vit


def _require_one_class_token(vit: Any) -> None:
    if vit.cls_token is None or vit.num_prefix_tokens != 1 or vit.global_pool != "token":
        raise Undefined(
            "the convention requires a class token that the head reads, and no other leading tokens"
        )


def _require_lines_for_all(vit: nn.Module) -> None:
    """Check that there is a rule for every module and parameter."""
    for name, module in vit.named_modules():
        if not isinstance(module, PLACES.get(_place(name), ())):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            raise Undefined(f"{name} is {kind}, for which the convention has no rule")
    stored = {f"{PREFIX}{part}" for layer in stored_weights(vit) for part in layer.parts()}
    for name, _ in vit.named_parameters():
        if name.rpartition(".")[2] not in {*PARAMETERS, *stored}:
            raise Undefined(f"the convention has no rule for the parameter {name}")


def _place(name: str) -> str:
    return re.sub(r"^blocks\.\d+", "blocks.*", name)


@dataclass
class _Walk:
    """The stored activations and the peak so far, in elements of one image."""

    stored: int = 0
    peak: int = 0

    def run(self, entering: int, leaving: int, beside: int = 0) -> None:
        """Update the peak with the elements of the input and output of a Conv, Linear or GELU.

        ``beside`` is the number of elements that wait for a residual addition.
        """
        self.peak = max(self.peak, self.stored + entering + leaving + beside)

    def layer(self, layer: Any, entering: int, leaving: int, beside: int = 0) -> None:
        """Run a Conv or Linear; it stores its input if its weight is trained."""
        self.run(entering, leaving, beside)
        if layer.weight.requires_grad:
            self.stored += entering

    def linear(self, linear: nn.Linear, tokens: int, beside: int = 0) -> None:
        """Run a Linear on ``tokens`` tokens."""
        self.layer(linear, tokens * linear.in_features, tokens * linear.out_features, beside)

    def gelu(self, elements: int, *, kept: bool) -> None:
        """Run a GELU; it stores its input if the convention lets a gradient pass (``kept``)."""
        # The rules count its output towards the peak; the official code (8b42bbe) counts only its
        # input. The two differ only if the peak is in a frozen first block.
        self.run(elements, elements)
        if kept:
            self.stored += elements

    def norm(self, norm: nn.Module, elements: int) -> None:
        """Run a LayerNorm; it does not count towards the peak."""
        weight = getattr(norm, "weight", None)  # an Identity has no weight
        if weight is not None and weight.requires_grad:
            self.stored += elements


def _peak_elements(vit: Any, method: Method) -> int:
    """Walk the modules in forward order and return the peak, in elements of one image."""
    walk = _Walk()
    embed, dim = vit.patch_embed, vit.embed_dim
    height, width = embed.img_size
    walk.layer(embed.proj, embed.proj.in_channels * height * width, embed.num_patches * dim)
    tokens = embed.num_patches + 1
    walk.norm(vit.norm_pre, tokens * dim)
    first = _first_trained_block(vit)
    for index, after in enumerate(method.tokens(tokens, len(vit.blocks))):
        block = vit.blocks[index]
        walk.norm(block.norm1, tokens * dim)
        if first is None:
            walk.stored = 0  # the official code resets this here, but still stores GELU inputs
        elif index >= first:
            # Added before qkv, as in the official code; the rules do not define the moment.
            walk.stored += block.attn.num_heads * tokens**2 + 3 * tokens * dim
        walk.linear(block.attn.qkv, tokens, beside=tokens * dim)
        walk.linear(block.attn.proj, tokens, beside=tokens * dim)
        tokens = after  # a block drops tokens between its attention and its MLP
        walk.norm(block.norm2, tokens * dim)
        walk.linear(block.mlp.fc1, tokens)
        walk.gelu(tokens * block.mlp.fc1.out_features, kept=first is None or index >= first)
        walk.linear(block.mlp.fc2, tokens)
    walk.norm(vit.norm, tokens * dim)
    walk.linear(vit.head, 1)  # the head reads only the class token
    return walk.peak


def _first_trained_block(vit: Any) -> int | None:
    """Return the index of the first block with a trained parameter, or None if no block has one.

    Raises:
        Undefined: no block is trained, but a parameter below the blocks is.
    """
    for index, block in enumerate(vit.blocks):
        if any(parameter.requires_grad for parameter in block.parameters()):
            return index
    above = ("blocks.", "norm.", "head.")
    for name, parameter in vit.named_parameters():
        if parameter.requires_grad and not name.startswith(above):
            raise Undefined(
                f"{name} is trained, but no block is; the convention has no rule for this case"
            )
    return None
