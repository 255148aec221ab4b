"""Images of the size asked for go through a model, or it is refused before anything runs."""

import functools
import inspect
import re
import sys

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import image_sizes, models

SMALL = ("test_", "pico", "nano", "tiny", "xxs", "xs", "_s0", "_m0", "_b0", "small")
SLOW = {"sequencer"}  # recurrent: a minute each on the meta device


def families():
    """Yield a small model of each of timm's families whose constructors take a size of images.

    Plain vision transformers are left out: they refuse other sizes themselves.
    """
    for module in sorted({timm.models._registry._model_to_module[n] for n in timm.list_models()}):
        place = sys.modules[f"timm.models.{module}"]
        kinds = [
            kind
            for kind in vars(place).values()
            if getattr(kind, "__module__", "") == place.__name__ and hasattr(kind, "get_classifier")
        ]
        sized = any("img_size" in inspect.signature(kind).parameters for kind in kinds)
        if sized and module not in {*models.PLAIN, *SLOW}:
            names = timm.list_models(module=module)
            yield min(names, key=lambda n: (not any(part in n for part in SMALL), len(n), n))


# At 128 px, and why; all others go through.
REFUSED = {
    "crossvit_tiny_240": "its layers do not fit together .*length 107",  # 128 * 224 / 240 = 119.5
    "deepseek_vit_412m": "should be divisible by patch size .14",
    "efficientformer_l1": "its layers do not fit together .*length 49",  # 7 * 7, of 224 px alone
    "eva02_tiny_patch14_224": "patch_embed.proj splits a map of 128 x 128 into squares of 14 x 14",
}
FAMILIES = list(families())


def create(name, size):
    workload = Workload(model=name, image_size=size, batch=1)
    return models._create(workload, (7,), pretrained=False)


def flop(name, size):
    """Return what one image takes: less of a smaller one, unless it is not the one that is seen."""
    with torch.device("meta"):
        model = create(name, size).eval()
        with FlopCounterMode(display=False) as counted:
            model(torch.empty(1, 3, size, size))
    return counted.get_total_flops()


def require(name, size):
    image_sizes.require_goes_through(functools.partial(timm.create_model, name), size)


def test_there_are_many_families():
    assert len(FAMILIES) > 25
    assert set(REFUSED) <= set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_its_own_size_and_another_one_or_refuses_it(name):
    with torch.device("meta"):
        own = image_sizes.own_size(timm.create_model(name))
    require(name, own)
    if name in REFUSED:
        with pytest.raises(image_sizes.DoesNotFit, match=REFUSED[name]):
            require(name, 128)
        return
    require(name, 128)

    assert flop(name, own) > 1.2 * flop(name, 128)


# ---- as commands say it ---------------------------------------------------------------------


def test_images_of_the_size_asked_for_are_what_is_counted(typed):
    """Twins, whose patch embedding has no size of its own."""
    code, printed = typed(
        *("estimate", "--model", "twins_svt_small", "--method", "head", "--batch", 1),
        *("--image-size", 96),
    )

    assert code == 0
    # 3 x 96 x 96 numbers of four bytes, and a label of eight
    assert f"inputs_at_peak_bytes = {3 * 96 * 96 * 4 + 8:,} B" in printed
    # Counted by fvcore on a model of timm's that was made with img_size=96.
    assert "forward_macs = 617,148,416 MAC" in printed


@pytest.mark.parametrize("command", ["estimate", "profile"])
def test_a_size_that_does_not_fit_is_one_line_and_exit_code_2(command, typed):
    code, printed = typed(
        *(command, "--model", "crossvit_tiny_240", "--method", "head", "--batch", 2),
        *("--image-size", 96),
    )

    assert code == 2
    said = printed.strip()  # rich 13 ends the line of its progress
    assert len(said.splitlines()) == 1
    assert said.startswith(
        "error: image_size 96: 'crossvit_tiny_240' cannot process images of 96 px: its layers "
    )
    assert "leave image_size out to use the model's 240 px, or choose another size" in said


@pytest.mark.parametrize("size", [8, 90, 100])
def test_a_plain_vision_transformer_refuses_what_its_patches_leave_out(size):
    workload = Workload(model="deit_tiny_patch16_224", image_size=size, batch=1)

    with pytest.raises(BadInput, match=f"image_size {size} is not a multiple of .*patch size 16"):
        models.outline(workload, (10,))


def test_weights_that_do_not_fit_the_size_are_said(monkeypatch):
    """Positions of some models are resized by timm; of others torch finds another shape."""

    def refuse(*_, **__):
        raise RuntimeError("Error(s) in loading state_dict: size mismatch for pos_embed")

    monkeypatch.setattr(timm, "create_model", refuse)
    workload = Workload(model="test_vit", weights="timm", image_size=64, batch=1)

    with pytest.raises(BadInput, match="do not fit the model made for images of 64 px: leave"):
        models.build(workload, (10,), 0)


# ---- what is left out -----------------------------------------------------------------------


def small(*layers):
    """Return a maker of a model that knows no size of images."""
    return lambda: nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("layers", "size", "cut"),
    [
        ((nn.Conv2d(3, 2, 4, 4),), 18, "0 splits a map of 18 x 18 into squares of 4 x 4"),
        ((nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 2, 2, 2)), 9, "1 splits a map of 9 x 9"),
        ((nn.MaxPool2d(2),), 9, "0 splits a map of 9 x 9 into squares of 2 x 2"),
        ((nn.AvgPool2d(3),), 10, "0 splits a map of 10 x 10 into squares of 3 x 3"),
        # Nothing is lost at a whole number of squares, by squares that overlap, or by padding.
        ((nn.Conv2d(3, 2, 4, 4),), 16, ""),
        ((nn.Conv2d(3, 2, 3, 2, 1),), 9, ""),
        ((nn.Conv2d(3, 2, 1, 2),), 9, ""),
        ((nn.Conv2d(3, 2, 2, 2, 1),), 9, ""),
        ((nn.MaxPool2d(2, ceil_mode=True),), 9, ""),
    ],
)
def test_pixels_at_the_edge_are_not_left_out_in_silence(layers, size, cut):
    if not cut:
        image_sizes.require_goes_through(small(*layers), size)
        return

    with pytest.raises(image_sizes.DoesNotFit, match=f"{re.escape(cut)}.*would ignore"):
        image_sizes.require_goes_through(small(*layers), size)


def test_a_model_that_is_made_for_a_size_is_made_for_the_one_asked_for():
    assert image_sizes.made_for(lambda img_size: img_size, 96) == 96
    assert image_sizes.made_for(lambda: "as it is", 96) == "as it is"


def test_another_mistake_of_a_constructor_is_not_taken_for_a_missing_argument():
    def make(img_size):
        return len(img_size)

    with pytest.raises(TypeError, match="object of type 'int' has no len"):
        image_sizes.made_for(make, 96)


def test_a_reason_without_words_names_what_was_asserted():
    with pytest.raises(image_sizes.DoesNotFit, match=r"AssertionError: .*block_size == 0.* fails"):
        require("halonet26t", 96)
