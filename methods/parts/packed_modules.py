"""Make the modules of a vision transformer keep packed copies instead of activations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import LayerScale
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.attention import Mixes
from bsrbench.harness.model.experts import ExpertMlp
from bsrbench.harness.model.vit import stored_blocks, stored_norm
from bsrbench.methods.parts import packed_attention, packed_operators
from bsrbench.methods.parts.activations import gelu_form
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.packed_experts import KeepsLittle
from bsrbench.methods.parts.packed_operators import Codec
from bsrbench.methods.parts.recomputed_gelu import RecomputesGelu

# Makes the codec of one place: how many groups of channels it has. A codec may be a module.
Maker = Callable[[int], Codec]


@dataclass(frozen=True)
class Codecs:
    """How a method packs each kind of saved activation.

    Attributes:
        linear: inputs of Linear layers whose weight trains.
        norm: inputs of LayerNorm.
        gelu: inputs of GELU.
        rows: inputs of GELU in a mixture of experts, [rows, channels], sorted by expert; ``None``
            cannot pack what is not in the order of images.
        scale: inputs of LayerScale, where it trains.
        qkv: queries, keys and values, joined.
        matrix: the softmax of attention, which is then held whole; ``None`` keeps it fused,
            and the backward pass computes it again.
        final_norm: inputs of the norm after the last block; ``None`` leaves it alone.
    """

    linear: Maker
    norm: Maker
    gelu: Maker
    rows: Maker | None
    scale: Maker
    qkv: Maker
    matrix: Maker | None
    final_norm: Maker | None


def compress(model: nn.Module, codecs: Codecs) -> None:
    """Make every block (and the final norm) keep packed copies.

    Raises:
        Unsupported: the model has parts whose saved activations we do not know how to pack.
    """
    chain = stored_blocks(model)
    for outer in chain:
        # A method may have put a block of its own into a block.
        within = [part for part in outer.modules() if isinstance(part, Block)]
        for block in within:
            _require_known(block)
        for part in list(outer.modules()):
            _compress_part(part, codecs, outer.attn.num_heads)
        for block in within:
            _compress_attention(block, codecs)
    norm = stored_norm(model)
    if codecs.final_norm is not None and isinstance(norm, nn.LayerNorm):
        extend(norm, NormPacked, codec=codecs.final_norm(chain[0].attn.num_heads))


def _compress_attention(block: Any, codecs: Codecs) -> None:
    """Make a block's attention keep packed copies, and its MLP where it has a codec of its own."""
    heads = block.attn.num_heads
    if isinstance(block.mlp, RecomputesGelu):
        block.mlp.codec = codecs.gelu(heads)
    if isinstance(block.mlp, ExpertMlp):
        _compress_experts(block.mlp, codecs, heads)
    matrix = codecs.matrix(heads) if codecs.matrix else None
    extend(block.attn, MixesPacked, inputs=codecs.qkv(3 * heads), matrix=matrix)


def _compress_experts(mlp: Any, codecs: Codecs, heads: int) -> None:
    """Make a mixture keep its input packed once, for its gates and its experts."""
    if codecs.rows is None:
        raise Unsupported(
            "this method packs activations image by image, and the hidden activations of experts "
            "are sorted by expert"
        )
    if not isinstance(mlp, KeepsLittle):
        extend(mlp, KeepsLittle, form=gelu_form(mlp.act))
    mlp.inputs, mlp.hidden = codecs.linear(heads), codecs.rows(heads)
    for gate in mlp.gates:
        gate.codec = mlp.inputs


def _require_known(block: Any) -> None:
    attention = block.attn
    known = all(isinstance(part, nn.Identity) for part in (attention.q_norm, attention.k_norm))
    if not known:
        raise Unsupported("norms of queries and keys are not known to this method")
    if gelu_form(block.mlp.act) is None:
        raise Unsupported(f"the activation {type(block.mlp.act).__name__} is not known")
    if not isinstance(attention.attn_drop, nn.Dropout | nn.Identity):
        kind = type(attention.attn_drop).__name__
        raise Unsupported(f"what {kind} does to the softmax of attention is not known")
    for part in block.modules():
        if isinstance(part, nn.Dropout) and part.p > 0:
            raise Unsupported("dropout is not known to this method: its masks are not packed")


def _compress_part(part: nn.Module, codecs: Codecs, heads: int) -> None:
    if isinstance(part, nn.Linear):
        extend(part, LinearPacked, codec=codecs.linear(heads))
    elif isinstance(part, nn.LayerNorm):
        extend(part, NormPacked, codec=codecs.norm(heads))
    elif form := gelu_form(part):
        extend(part, GeluPacked, codec=codecs.gelu(heads), form=form)
    elif isinstance(part, LayerScale):
        extend(part, ScalePacked, codec=codecs.scale(heads))


class LinearPacked(nn.Module):
    """A Linear layer that keeps its input packed, and only if its weight trains."""

    codec: Codec

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, in] to [batch, tokens, out]."""
        layer: Any = self
        if not (layer.weight.requires_grad and torch.is_grad_enabled()):
            return F.linear(x, layer.weight, layer.bias)
        return packed_operators.linear(x, layer.weight, layer.bias, self.codec)


class NormPacked(nn.Module):
    """A LayerNorm that keeps its input packed."""

    codec: Codec

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [batch, tokens, dim]."""
        layer: Any = self
        if not _saves(x, *layer.parameters(recurse=False)):
            plain: Tensor = super().forward(x)
            return plain
        return packed_operators.layer_norm(x, layer.weight, layer.bias, layer.eps, self.codec)


class GeluPacked(nn.Module):
    """A GELU that keeps its input packed."""

    codec: Codec
    form: str

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] element by element."""
        if not _saves(x):
            return F.gelu(x, approximate=self.form)
        return packed_operators.gelu(x, self.codec, self.form)


class ScalePacked(nn.Module):
    """A LayerScale that keeps its input packed, and only if it trains."""

    codec: Codec

    def forward(self, x: Tensor) -> Tensor:
        """Scale [batch, tokens, dim]."""
        layer: Any = self
        if not (layer.gamma.requires_grad and torch.is_grad_enabled()):
            scaled: Tensor = x * layer.gamma
            return scaled
        return packed_operators.scale(x, layer.gamma, self.codec)


class MixesPacked(Mixes):
    """An attention that keeps queries, keys and values, and its softmax if it has one, packed."""

    inputs: Codec
    matrix: Codec | None

    def mix(
        self, qkv: Tensor, *, ranked: bool, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None] | None:
        """Mix the values of qkv [batch, tokens, 3 dim]; ``None`` where nothing is to be kept."""
        if not _saves(qkv):
            return None
        own: Any = self
        heads, factor = own.num_heads, own.scale
        if self.matrix is None:
            return packed_attention.attention(
                qkv,
                heads,
                factor,
                ranked=ranked,
                bias=bias,
                inputs=self.inputs,
            )
        return packed_attention.explicit_attention(
            qkv,
            heads,
            factor,
            ranked=ranked,
            bias=bias,
            inputs=self.inputs,
            matrix=self.matrix,
        )


def _saves(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
