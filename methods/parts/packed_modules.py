"""Make the modules of a vision transformer store packed copies instead of activations."""

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
from bsrbench.harness.model.stored_weight import StoredWeight
from bsrbench.harness.model.vit import stored_blocks, stored_norm
from bsrbench.methods.parts import packed_attention, packed_operators
from bsrbench.methods.parts.activations import gelu_form
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.packed_experts import KeepsLittle
from bsrbench.methods.parts.packed_operators import Codec
from bsrbench.methods.parts.recomputed_gelu import RecomputesGelu

# Makes the codec of one kind of activation from the number of groups of channels. A codec can be a
# module.
Maker = Callable[[int], Codec]


@dataclass(frozen=True)
class Codecs:
    """How a method packs each kind of saved activation.

    Attributes:
        linear: inputs of Linear layers whose weight trains.
        norm: inputs of LayerNorm.
        gelu: inputs of GELU.
        rows: inputs of GELU in a mixture of experts, [rows, channels], sorted by expert; ``None``
            if the method cannot pack rows that are not in the order of images.
        scale: inputs of LayerScale, if it trains.
        qkv: queries, keys and values, as one tensor.
        matrix: output of the attention's softmax, which is then computed explicitly; ``None``:
            attention is fused, and the backward pass recomputes the softmax.
        final_norm: inputs of the norm after the last block; ``None``: this norm is not changed.
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
    """Make every block, and the final norm if it has a codec, store packed copies.

    Raises:
        Unsupported: the model has modules whose saved activations cannot be packed.
    """
    chain = stored_blocks(model)
    for outer in chain:
        # An earlier method can have added a new block inside this block.
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
    """Set the codecs of a block's attention, and of an MLP that recomputes GELU or has experts."""
    heads = block.attn.num_heads
    if isinstance(block.mlp, RecomputesGelu):
        block.mlp.codec = codecs.gelu(heads)
    if isinstance(block.mlp, ExpertMlp):
        _compress_experts(block.mlp, codecs, heads)
    matrix = codecs.matrix(heads) if codecs.matrix else None
    extend(block.attn, MixesPacked, inputs=codecs.qkv(3 * heads), matrix=matrix)


def _compress_experts(mlp: Any, codecs: Codecs, heads: int) -> None:
    """Make a mixture of experts store one packed input for its gates and its experts."""
    if codecs.rows is None:
        raise Unsupported(
            "this method packs activations image by image, but the hidden activations of experts "
            "are sorted by expert, not by image"
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
        raise Unsupported("this method does not support norms of queries and keys")
    if gelu_form(block.mlp.act) is None:
        raise Unsupported(
            f"this method does not support the activation {type(block.mlp.act).__name__}"
        )
    if not isinstance(attention.attn_drop, nn.Dropout | nn.Identity):
        kind = type(attention.attn_drop).__name__
        raise Unsupported(f"this method does not support {kind} on the softmax of attention")
    for part in block.modules():
        if isinstance(part, nn.Dropout) and part.p > 0:
            raise Unsupported(
                "this method does not support dropout: it does not pack dropout masks"
            )


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
    """A Linear layer that stores its input packed, and stores it only if its weight trains."""

    codec: Codec

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, in] to [batch, tokens, out]."""
        layer: Any = self
        if isinstance(self, StoredWeight) or not (
            layer.weight.requires_grad and torch.is_grad_enabled()
        ):
            plain: Tensor = super().forward(x)
            return plain
        return packed_operators.linear(x, layer.weight, layer.bias, self.codec)


class NormPacked(nn.Module):
    """A LayerNorm that stores its input packed."""

    codec: Codec

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [batch, tokens, dim]."""
        layer: Any = self
        if not _saves(x, *layer.parameters(recurse=False)):
            plain: Tensor = super().forward(x)
            return plain
        return packed_operators.layer_norm(x, layer.weight, layer.bias, layer.eps, self.codec)


class GeluPacked(nn.Module):
    """A GELU that stores its input packed."""

    codec: Codec
    form: str

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] element by element."""
        if not _saves(x):
            return F.gelu(x, approximate=self.form)
        return packed_operators.gelu(x, self.codec, self.form)


class ScalePacked(nn.Module):
    """A LayerScale that stores its input packed, and stores it only if it trains."""

    codec: Codec

    def forward(self, x: Tensor) -> Tensor:
        """Scale [batch, tokens, dim]."""
        layer: Any = self
        if not (layer.gamma.requires_grad and torch.is_grad_enabled()):
            scaled: Tensor = x * layer.gamma
            return scaled
        return packed_operators.scale(x, layer.gamma, self.codec)


class MixesPacked(Mixes):
    """An attention that stores q, k and v packed, and also the softmax if this is explicit."""

    inputs: Codec
    matrix: Codec | None

    def mix(
        self, qkv: Tensor, *, ranked: bool, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None] | None:
        """Attend with qkv [batch, tokens, 3 dim]; return ``None`` if nothing needs to be stored."""
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
