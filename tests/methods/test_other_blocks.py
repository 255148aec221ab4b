"""Blocks that real transformers have: every method does on them what it declares, or refuses them.

Gradients are compared with central differences of the loss in float64, which know nothing of how a
method keeps what its backward pass reads.
"""

from functools import partial

import pytest
import torch
from timm.layers import GELU, GELUTanh, GluMlp, LayerNorm, QuickGELU, RmsNorm, SwiGLU
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance import promises
from bsrbench.harness.conformance.subject import Subject, terms, tiny_batch
from bsrbench.harness.method import Unsupported

DEPTH, DIRECTIONS, LARGE = 4, 12, 10
ROUNDING = 1e-6  # of differences; a wrong formula is off by thousandths at the least
LOOSE = 3  # times the declared error, which is that of the usual blocks and of more directions
OPTIONS = {  # of the methods whose defaults name blocks of twelve
    "bsr": {"trained_blocks": [1, 3], "drop_at": [1, 2]},
    "evit": {"drop_at": [1, 2]},
    "repnet": {"side_blocks": [1, 3], "drop_at": [1]},
    "dtl": {"first": 1, "plus": True},
    "sparse_tuning": {"drop_at": [1, 2]},
}
KINDS = {
    "gated by GELU": {"mlp_layer": GluMlp, "act_layer": nn.GELU},
    "SwiGLU": {
        "mlp_layer": SwiGLU,
        "act_layer": nn.SiLU,
        "norm_layer": RmsNorm,
        "qkv_bias": False,
        "proj_bias": False,
    },
    "SwiGLU in one layer": {"mlp_layer": partial(GluMlp, gate_last=False), "act_layer": nn.SiLU},
    "tanh GELU of torch": {"act_layer": partial(nn.GELU, approximate="tanh")},
    "tanh GELU of timm": {"act_layer": GELUTanh},
    "GELU of timm": {"act_layer": GELU},
    "quick GELU": {"act_layer": QuickGELU, "pre_norm": True},
    "norms without weights": {"norm_layer": partial(nn.LayerNorm, elementwise_affine=False)},
    "norms without shifts": {"norm_layer": partial(nn.LayerNorm, bias=False)},
    "RMSNorm and LayerScale": {"norm_layer": RmsNorm, "init_values": 0.5},
    "norms inside": {"scale_attn_norm": True, "scale_mlp_norm": True, "norm_layer": LayerNorm},
    "no last norm": {"final_norm": False, "init_values": 0.5},
    "qkv without bias": {"qkv_bias": False},
    "three heads": {"embed_dim": 48, "num_heads": 3},
    "differential attention": {"attn_layer": "diff"},
    "norms after": {"block_fn": ResPostBlock},
    "attention beside the MLP": {"block_fn": ParallelScalingBlock},
    "two of each beside each other": {"block_fn": ParallelThingsBlock},
}
UNKNOWN_BLOCKS = {
    "differential attention": "block 0 is a Block with DiffAttention",
    "norms after": "block 0 is a ResPostBlock with Attention",
    "attention beside the MLP": "block 0 is a ParallelScalingBlock, which is not supported",
    "two of each beside each other": "block 0 is a ParallelThingsBlock, which is not supported",
}
ANY_BLOCK = {"full", "head", "bias", "norm", "int8w", "nf4", "mezo"}  # ask nothing of blocks
REFUSED = {  # beside unknown blocks
    ("int8", "SwiGLU"): "does not support the activation SiLU",
    ("int8", "SwiGLU in one layer"): "does not support the activation SiLU",
    ("int8", "quick GELU"): "does not support the activation QuickGELU",
    ("sparse", "SwiGLU"): "does not support the activation SiLU",
    ("sparse", "SwiGLU in one layer"): "does not support the activation SiLU",
    ("sparse", "quick GELU"): "does not support the activation QuickGELU",
    ("regelu2", "SwiGLU"): "the activation SiLU is not GELU",
    ("regelu2", "SwiGLU in one layer"): "the activation SiLU is not GELU",
    ("regelu2", "quick GELU"): "the activation QuickGELU is not GELU",
    ("regelu2", "tanh GELU of torch"): "GELU with the approximation 'tanh' is not supported",
    ("regelu2", "tanh GELU of timm"): "GELU with the approximation 'tanh' is not supported",
    ("ladder", "gated by GELU"): "the MLP of block 0 is a GluMlp",
    ("ladder", "SwiGLU"): "the MLP of block 0 is a SwiGLU",
    ("ladder", "SwiGLU in one layer"): "the MLP of block 0 is a GluMlp",
    ("norm", "norms without weights"): "no LayerNorm or RMSNorm with weights",
    ("mslnorm", "norms without weights"): "a norm of block 0 is a LayerNorm without weights",
    ("mslnorm", "SwiGLU"): "a norm of block 0 is a RmsNorm with weights",
    ("mslnorm", "RMSNorm and LayerScale"): "a norm of block 0 is a RmsNorm with weights",
}
# timm's gates start so near 0 that without biases the MLP adds nothing, for whichever tokens.
IDLE_MLP = {("dyt", "SwiGLU")}


def refusal(name, kind):
    """Return what a method must say of a kind of block; ``None`` where it must work."""
    if kind in UNKNOWN_BLOCKS and name not in ANY_BLOCK:
        return UNKNOWN_BLOCKS[kind]
    return REFUSED.get((name, kind))


class Large(Subject):
    """A model whose weights are large enough for one form of GELU to differ from the other."""

    def model(self, seed=0):
        model = super().model(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("fc1.weight", "w0.weight")):
                    parameter.mul_(LARGE)
        return model


def subject(name, kind):
    return Large(
        name,
        methods.find,
        methods.load,
        options=OPTIONS.get(name, {}),
        changes={"depth": DEPTH} | KINDS[kind],
    )


EVERY = [(name, kind) for kind in KINDS for name in methods.names()]
WORKING = [pair for pair in EVERY if refusal(*pair) is None]
# What asks nothing of blocks is torch's own autograd there: nothing to compare.
COMPARED = [(name, kind) for name, kind in WORKING if kind not in UNKNOWN_BLOCKS]


def name_of(pair):
    return "{}, {}".format(*pair)


@pytest.mark.parametrize("pair", WORKING, ids=name_of)
def test_a_method_keeps_parameters_and_logits_as_declared(pair):
    promises.keeps_the_parameters(subject(*pair))
    if pair not in IDLE_MLP:
        promises.forward_promise(subject(*pair))


@pytest.mark.parametrize("pair", COMPARED, ids=name_of)
def test_a_methods_gradient_is_as_near_as_declared(pair):
    one = subject(*pair)
    bound = LOOSE * one.method().gradient_error
    images, labels = tiny_batch()
    batch = images.double(), labels
    torch.manual_seed(0)
    method = one.method()
    model = method.prepare(one.model().double())
    loss = promises._same_loss(method, model, batch)
    for term in terms(method, model, batch):
        term.backward()

    assert promises._error(model, loss, DIRECTIONS if bound else 2) <= max(bound, ROUNDING)


@pytest.mark.parametrize("pair", sorted({*EVERY} - {*WORKING}), ids=name_of)
def test_a_method_refuses_what_it_does_not_know_and_says_what(pair):
    with pytest.raises(Unsupported, match=refusal(*pair)):
        subject(*pair).prepared()
