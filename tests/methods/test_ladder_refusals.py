"""What ladder side-tuning refuses, with the reason."""

import re

import pytest
import timm
import torch

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported


def test_tokens_are_not_merged_beneath_a_ladder(make_vit):
    with pytest.raises(Unsupported, match="reads the model's blocks one by one"):
        methods.load("ladder+tome").prepare(make_vit())


@pytest.mark.parametrize("first", ["checkpoint", "int8"])
def test_what_came_before_would_not_see_the_side_network(first, make_vit):
    with pytest.raises(Unsupported, match="Name ladder first"):
        methods.load(f"{first}+ladder").prepare(make_vit())


def test_says_which_reductions_the_heads_allow(make_vit):
    said = "width 32 / reduction 16 is not divisible by 4 heads; possible reductions: 1, 2, 4, 8"

    with pytest.raises(Unsupported, match=re.escape(said)):
        methods.load("ladder", reduction=16).prepare(make_vit())


def test_says_that_no_projection_is_there_to_begin_pruning_from():
    """Convolutions hand their channels to the blocks as they are."""
    with torch.device("meta"):
        model = timm.create_model("vit_base_mci_224", img_size=64, num_classes=10)
    with pytest.raises(Unsupported, match=r"prune needs a linear .*set prune to false"):
        methods.load("ladder").prepare(model)

    assert methods.load("ladder", prune=False).prepare(model).branch.norm.weight.requires_grad


def test_says_that_a_ladder_needs_a_rung(make_vit):
    with pytest.raises(Unsupported, match="leaves no block of the model's 12"):
        methods.load("ladder", skip=list(range(12))).prepare(make_vit())


@pytest.mark.parametrize(
    ("model", "said"),
    [({"qk_norm": True}, "norms of queries and keys"), (None, "ResNet is not one of timm's")],
    ids=str,
)
def test_says_which_models_it_does_not_know(model, said, make_vit):
    made = timm.create_model("test_resnet") if model is None else make_vit(**model)

    with pytest.raises(Unsupported, match=said):
        methods.load("ladder").prepare(made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": 0}, "reduction 0 must be at least 1"),
        ({"skip": [3, 3]}, "must be different blocks"),
        ({"skip": [-1]}, "must be different blocks"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("ladder", **options)
