"""Read the weights of a DINOv2 backbone from an ONNX file, under timm's names."""

import re
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

EMBEDDINGS = {
    "backbone.embeddings.cls_token": "cls_token",
    "backbone.embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "backbone.embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "backbone.layernorm.weight": "norm.weight",
    "backbone.layernorm.bias": "norm.bias",
}
IN_BLOCK = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
PROJECTIONS = ("query", "key", "value")
LAYER = re.compile(r"backbone\.encoder\.layer\.(\d+)\.(.+)")


def dinov2_from_onnx(content: bytes) -> dict[str, Tensor]:
    """Return the backbone's tensors under the names of timm's ``vit_*_patch14_dinov2``.

    Norms, biases and layer scales have names in the file. The weight of a Linear layer has no name:
    it is the constant of a MatMul, stored transposed. The Add after the MatMul has the named bias
    of the same layer. The position embedding is two constants without names, one for the class
    token and one for the grid.

    Returns:
        Tensors by name. The ``weight`` of a Linear layer is [out, in], ``pos_embed`` is
        [1, tokens, dim].
    """
    graph = onnx.load_from_string(content).graph
    values = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy())
        for item in graph.initializer
    }
    values |= _linear_weights(graph, values)
    state = {new: values[old] for old, new in EMBEDDINGS.items()}
    state["pos_embed"] = torch.cat(_position_embedding(values), dim=1)
    depth = 1 + max(int(layer[1]) for name in values if (layer := LAYER.match(name)))
    for index in range(depth):
        state |= _block(values, index)
    return state


def _linear_weights(graph: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
    matrix_of = {
        node.output[0]: values[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in values
    }
    weights = {}
    for node in graph.node:
        products = [name for name in node.input if name in matrix_of]
        biases = [name for name in node.input if name.endswith(".bias")]
        if node.op_type == "Add" and len(products) == len(biases) == 1:
            weight = biases[0].removesuffix("bias") + "weight"
            weights[weight] = matrix_of[products[0]].T.contiguous()
    return weights


def _position_embedding(values: dict[str, Tensor]) -> list[Tensor]:
    """Return the two constants [1, n, dim] without names; first the class token's, with n = 1."""
    anonymous = [
        value
        for name, value in values.items()
        if name.startswith("onnx::") and value.dim() == 3  # noqa: PLR2004 - the shape above
    ]
    return sorted(anonymous, key=lambda value: value.shape[1])


def _block(values: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    prefix = f"backbone.encoder.layer.{index}."
    inside = {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }
    block = {
        f"blocks.{index}.attn.qkv.{kind}": torch.cat(
            [inside.pop(f"attention.attention.{part}.{kind}") for part in PROJECTIONS]
        )
        for kind in ("weight", "bias")
    }
    for name, value in inside.items():
        renamed = name
        for old, new in IN_BLOCK.items():
            renamed = renamed.replace(old, new)
        block[f"blocks.{index}.{renamed}"] = value
    return block
