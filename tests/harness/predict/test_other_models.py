"""Models that are built otherwise than ViT-B have numbers where they can, and reasons elsewhere."""

import pytest
import timm
import torch

from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.estimate import predict
from bsrbench.methods import load

PARALLEL = {
    "vit_pwee_patch16_reg1_gap_256": "ParallelScalingBlock",
    "vit_dpwee_patch16_reg1_gap_256": "DiffParallelScalingBlock",
    "vit_base_patch16_xp_224": "ParallelScalingBlock",
    "vit_small_patch16_18x2_224": "ParallelThingsBlock",
}
# Their patch sizes are one number, and their image sizes cannot be chosen.
OWN_SIZE = {"xcit_nano_12_p16_224": "head", "efficientvit_m0": "full"}


def count(name, **changes):
    """Return a model's parameters with 5 classes, and those of its head."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5, **changes)
    own = {name: p.numel() for name, p in model.named_parameters()}
    head = sum(n for name, n in own.items() if name.startswith(model.pretrained_cfg["classifier"]))
    return sum(own.values()), head


@pytest.mark.parametrize("name", PARALLEL)
def test_bsr_refuses_parallel_blocks_by_name(name, make_spec):
    with pytest.raises(Unsupported, match=f"block 0 is a {PARALLEL[name]}, which is not supported"):
        predict(make_spec("bsr", model=name, image_size=32, batch=2), load)


@pytest.mark.parametrize("name", [name for name in PARALLEL if "pwee" in name])
def test_parallel_blocks_train_whole(name, make_spec):
    """The walk over timm's models (tests/walk) has the larger ones."""
    numbers = predict(make_spec("full", model=name, image_size=32, batch=2), load).measurements
    every, _ = count(name, img_size=32)

    assert every == numbers["trained_parameters"]
    assert numbers["forward_macs"] > 0
    assert numbers["peak_estimated_bytes"] > 4 * every


def test_a_parallel_blocks_parameters_are_those_of_its_shapes(make_spec):
    """C = 256, 16 blocks, an MLP of 5 C beside the attention; a register, a class token has it not.

    A block: LayerNorm 2 C; in_proj C to 3 C + 5 C with as many biases; back from C and from 5 C to
    C; a factor for each of C. Outside: patches 3 x 16^2 x C + C, positions of 4 patches, one
    register, the last norm, the head.
    """
    block = 2 * 256 + 256 * 2048 + 2048 + 256 * 256 + 256 + 1280 * 256 + 256 + 256
    expected = 16 * block + (768 * 256 + 256) + 4 * 256 + 256 + 2 * 256 + (256 * 5 + 5)
    spec = make_spec("full", model="vit_pwee_patch16_reg1_gap_256", image_size=32, batch=2)

    assert expected == predict(spec, load).measurements["trained_parameters"]


@pytest.mark.parametrize(("name", "method"), OWN_SIZE.items())
def test_models_of_a_size_of_their_own_have_numbers(name, method, make_spec):
    spec = make_spec(method, model=name, image_size=None, batch=2)
    numbers = predict(spec, load).measurements
    every, head = count(name)

    assert {"full": every, "head": head}[method] == numbers["trained_parameters"]
    assert every == numbers["total_parameters"]
    assert numbers["forward_macs"] > 0
