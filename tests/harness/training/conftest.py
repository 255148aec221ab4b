"""Models with experts, and specs of two tasks on one."""

import pytest
import torch
from torch import nn

from bsrbench.harness.conformance.subject import tiny_model
from bsrbench.harness.model.experts import ExpertMlp, take_turns
from tests.harness.training.two_tasks import MULTITASK


@pytest.fixture
def make_multitask(make_spec):
    """Return a maker of specs of two tasks on a model of twelve blocks, three of them experts."""

    def make(method="full", multitask=MULTITASK, **changes):
        small = {"model": "deit_tiny_patch16_224", "image_size": 32, "batch": 2, "classes": None}
        return make_spec(method, **small | {"multitask": multitask} | changes)

    return make


@pytest.fixture
def make_moe():
    """Return a maker of tiny models with experts in blocks 3, 7 and 11 and heads of 5 and 3.

    Experts differ from each other, as after some steps, and have biases.
    """

    def make(dtype=torch.float32):
        model = tiny_model()
        take_turns(model, (5, 3), (3, 7, 11), 4, 2)
        for mixture in (part for part in model.modules() if isinstance(part, ExpertMlp)):
            for parameter in mixture.parameters():
                nn.init.normal_(parameter, std=0.2)
        return model.to(dtype)

    return make
