"""Which parameters of a plain vision transformer the methods that choose weights train, by name.

A block has two norms, qkv, proj, fc1 and fc2; around the blocks are the class token, positions,
the patch embedding, the final norm and the head.
"""

import pytest

from bsrbench import methods

LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
HEAD = {"head.weight", "head.bias"}
NORMS = {
    f"{norm}.{part}"
    for norm in ("norm", *(f"blocks.{i}.{name}" for i in range(12) for name in ("norm1", "norm2")))
    for part in ("weight", "bias")
}
BIASES = {f"blocks.{i}.{layer}.bias" for i in range(12) for layer in LAYERS}
BIASES |= {"patch_embed.proj.bias", "norm.bias"}


@pytest.mark.parametrize(
    ("method", "expected"),
    [("head", HEAD), ("bias", BIASES | HEAD), ("norm", NORMS | HEAD)],
)
def test_trains_these_and_no_others(method, expected, make_vit):
    model = methods.load(method).prepare(make_vit())

    assert expected == {name for name, p in model.named_parameters() if p.requires_grad}


def test_full_fine_tuning_trains_all(make_vit):
    model = methods.load("full").prepare(make_vit())

    assert all(parameter.requires_grad for parameter in model.parameters())
