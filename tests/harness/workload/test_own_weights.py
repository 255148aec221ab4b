"""Weights from files of one's own: read whole, resized as stated, or refused with the reason."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import models, weights

MODEL = "deit_tiny_patch16_224"


@pytest.fixture
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("BSRBENCH_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(7)
    return timm.create_model(MODEL, num_classes=10).state_dict()


def build(file, image_size=None, classes=10):
    workload = Workload(model=MODEL, weights=f"file:{file}", image_size=image_size, batch=1)
    return models.build(workload, (classes,), seed=0), workload


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("w.safetensors", save_file),
        ("w.pth", torch.save),
        ("w.pt", lambda state, path: torch.save({"model": state, "epoch": 3}, path)),
        (
            "w.bin",
            lambda state, path: torch.save(
                {"state_dict": {f"module.{key}": value for key, value in state.items()}}, path
            ),
        ),
    ],
)
def test_every_format_fills_the_model(file, write, root, state):
    write(state, root / file)
    model, workload = build(file)
    said = weights.facts(workload, model)

    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
    assert said["origin"] == f"read from the file {file}"
    assert len(said["sha256"]) == 64


def test_the_same_tensors_have_the_same_hash_whatever_the_file_and_the_head(root, state):
    save_file(state, root / "w.safetensors")
    torch.save(state, root / "w.pth")
    built = [build("w.safetensors"), build("w.pth"), build("w.pth", classes=3)]
    hashes = {weights.facts(workload, model)["tensors_sha256"] for model, workload in built}
    other, workload = built[0]
    with torch.no_grad():
        other.norm.bias[0] += 1

    assert len(hashes) == 1
    assert weights.facts(workload, other)["tensors_sha256"] not in hashes


def test_a_head_of_another_width_stays_as_it_was_drawn(root, state):
    save_file(state, root / "w.safetensors")
    model, _ = build("w.safetensors", classes=3)

    assert model.head.weight.shape == (3, 192)
    assert torch.equal(state["norm.weight"], model.norm.weight)


def test_positions_are_resized_bicubically_without_antialiasing(root, state):
    """Against torch's own resizing of each channel's grid; the class token's stays."""
    save_file(state, root / "w.safetensors")
    model, workload = build("w.safetensors", image_size=96)
    grid = state["pos_embed"][0, 1:].T.reshape(1, 192, 14, 14)
    expected = torch.nn.functional.interpolate(grid, (6, 6), mode="bicubic", antialias=False)

    assert torch.equal(state["pos_embed"][:, 0], model.pos_embed[:, 0])
    torch.testing.assert_close(expected.flatten(2)[0].T, model.pos_embed[0, 1:])
    assert weights.facts(workload, model)["positions"] == "resized bicubically without antialiasing"


def write_jax(model, path):
    """Write a model as the JAX vision transformers are published."""
    own, depth, heads = model.state_dict(), len(model.blocks), model.blocks[0].attn.num_heads
    flat = {
        "embedding/kernel": own["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": own["patch_embed.proj.bias"],
        "cls": own["cls_token"],
        "Transformer/posembed_input/pos_embedding": own["pos_embed"],
        "Transformer/encoder_norm/scale": own["norm.weight"],
        "Transformer/encoder_norm/bias": own["norm.bias"],
    }
    for index in range(depth):
        block, to = f"blocks.{index}.", f"Transformer/encoderblock_{index}/"
        for number, name in ((0, "norm1"), (2, "norm2")):
            flat[f"{to}LayerNorm_{number}/scale"] = own[f"{block}{name}.weight"]
            flat[f"{to}LayerNorm_{number}/bias"] = own[f"{block}{name}.bias"]
        attention = f"{to}MultiHeadDotProductAttention_1/"
        kernels = own[f"{block}attn.qkv.weight"].chunk(3)
        biases = own[f"{block}attn.qkv.bias"].chunk(3)
        for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            flat[f"{attention}{name}/kernel"] = kernel.T.reshape(len(bias), heads, -1)
            flat[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        projection = own[f"{block}attn.proj.weight"]
        flat[f"{attention}out/kernel"] = projection.T.reshape(heads, -1, len(projection))
        flat[f"{attention}out/bias"] = own[f"{block}attn.proj.bias"]
        for number, name in ((0, "fc1"), (1, "fc2")):
            flat[f"{to}MlpBlock_3/Dense_{number}/kernel"] = own[f"{block}mlp.{name}.weight"].T
            flat[f"{to}MlpBlock_3/Dense_{number}/bias"] = own[f"{block}mlp.{name}.bias"]
    np.savez(path, **{name: value.numpy() for name, value in flat.items()})


def test_weights_of_the_jax_models_are_read(root):
    torch.manual_seed(3)
    source = timm.create_model(MODEL, num_classes=10)
    write_jax(source, root / "w.npz")
    model, workload = build("w.npz")
    images = torch.randn(2, 3, 224, 224)

    for key, value in source.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(value, model.state_dict()[key]), key
    torch.testing.assert_close(source.forward_features(images), model.forward_features(images))
    assert "antialiasing" in weights.facts(workload, model)["positions"]


def _without(state, key):
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: _without(s, "norm.bias"), r"1 missing \(norm\.bias\)"),
        (lambda s: s | {"strange": torch.ones(1)}, r"1 not in this model \(strange\)"),
        (
            lambda s: s | {"blocks.3.mlp.fc1.bias": torch.ones(5)},
            r"1 with another shape \(blocks\.3\.mlp\.fc1\.bias \[5\] instead of \[768\]\)",
        ),
        (
            lambda s: s | {"pos_embed": torch.ones(1, 200, 192)},
            r"pos_embed \[1, 200, 192\] instead",
        ),
    ],
)
def test_a_checkpoint_of_another_shape_lists_the_keys(change, said, root, state):
    save_file(change(state), root / "w.safetensors")

    with pytest.raises(
        BadInput, match=rf"weights 'file:w\.safetensors' do not fit this model: .*{said}"
    ):
        build("w.safetensors")


def test_a_pickle_of_more_than_tensors_is_refused(root):
    torch.save({"model": print}, root / "w.pth")

    with pytest.raises(BadInput, match=r"more than tensors \(it names \S*print") as said:
        build("w.pth")

    assert "weights_only" not in str(said.value)  # torch says how to run it all the same


def test_an_npz_of_objects_is_refused(root):
    np.savez(root / "w.npz", **{"embedding/kernel": np.array([None], dtype=object)})

    with pytest.raises(BadInput, match=r"w\.npz cannot be read as weights of this model"):
        build("w.npz")


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "w.npz"])
def test_a_damaged_file_is_refused(file, root):
    (root / file).write_bytes(b"PK\x03\x04 cut off")

    with pytest.raises(BadInput, match=r"w\.\w+.*(cannot|refused)"):
        build(file)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("w.onnx", "must be a file of .safetensors"),
        ("none.pth", "no weights file 'none.pth'; the data"),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_anything_runs(file, said, root):
    with pytest.raises(BadInput, match=said):
        weights.fetch(f"file:{file}")
