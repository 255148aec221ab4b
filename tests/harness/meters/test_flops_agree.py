"""FLOPs against closed forms, fvcore and the kernels that are counted."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch.nn.functional import conv2d, conv_transpose2d

from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.methods import load
from bsrbench.methods.parts import packed_operators


def closed_form_macs(model, tokens):
    """Multiply-adds of a ViT's forward pass, from its dimensions and its tokens after blocks."""
    dim, patch = model.embed_dim, model.patch_embed.patch_size[0]
    patches = model.patch_embed.num_patches
    macs = patches * 3 * patch**2 * dim + dim * model.num_classes
    for before, after in zip((patches + 1, *tokens), tokens, strict=False):
        macs += before * 4 * dim**2 + 2 * before**2 * dim + after * 8 * dim**2
        if after < before:
            dropped = before - 1 - (after - 2)
            macs += dropped * dim  # the weighted sum of the dropped
    return macs


@pytest.mark.parametrize("method", ["full", "bsr"])
def test_flops_of_a_forward_pass_equal_the_closed_form(method, make_vit, batch):
    model = load(method).prepare(make_vit())
    with StepFlops() as flops:
        model(batch[0])
    expected = 2 * 16 * closed_form_macs(model, load(method).tokens(17))

    assert flops.by_phase == {"forward": expected}


def test_flops_agree_with_fvcore_where_fvcore_can_count(make_vit, batch):
    """Fvcore counts multiply-adds, and knows attention only in its parts."""
    model = make_vit().eval()
    for block in model.blocks:
        block.attn.fused_attn = False
    with torch.no_grad(), StepFlops() as flops:
        model(batch[0])
    counted = FlopCountAnalysis(model, batch[0]).unsupported_ops_warnings(False).by_operator()

    assert flops.by_phase["forward"] == 2 * sum(
        count for name, count in counted.items() if name in {"conv", "linear", "matmul", "addmm"}
    )


def test_flops_of_a_step_with_fused_attention(make_vit, batch):
    """Backward is twice forward but for the first product (images need no gradient) and attention.

    The fused kernel's backward does 5 products where its forward did 2: the scores again.
    """
    model = make_vit()
    dim, tokens, images, blocks = 32, 17, 16, 12
    patches = 2 * images * 16 * 3 * 64 * dim
    attention = 2 * images * blocks * 2 * tokens**2 * dim
    with StepFlops() as flops:
        output = model(batch[0]).sum()
        flops.enter_phase("backward")
        output.backward()
    forward = flops.by_phase["forward"]

    assert flops.by_phase["backward"] == 2 * (forward - patches - attention) + patches + (
        attention * 5 // 2
    )


@pytest.mark.parametrize("kernel", ["efficient", "flash", "cudnn"])
def test_flops_of_cudas_attention_kernels_are_counted(kernel):
    """Two products forward, five backward (the scores again), of 2 FLOP a multiply-add.

    On device meta the operators have their shapes and run nothing.
    """
    q = torch.empty(2, 6, 17, 64, device="meta", dtype=torch.float16)
    product = 2 * 2 * 6 * 17 * 17 * 64
    forward = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}_attention")
    backward = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}_attention_backward")
    with StepFlops() as flops:
        made = forward(q, q, q) if kernel == "flash" else forward(q, q, q, None, True)
        flops.enter_phase("backward")
        backward(*arguments_of(backward, q, made))

    assert flops.by_phase == {"forward": 2 * product, "backward": 5 * product}


def arguments_of(backward, q, made):
    """Return a valid call's arguments by their names; on meta only their shapes matter."""
    shaped = {"grad_out": q, "grad_out_": q, "query": q, "key": q, "value": q, "out": made[0]}
    plain = {"dropout_p": 0.0, "is_causal": False, "max_q": 17, "max_k": 17}
    plain |= {"grad_input_mask": [True, True, True, False], "logsumexp": made[1]}
    plain |= {"attn_bias": None, "cum_seq_q": None, "cum_seq_k": None}
    seed = torch.empty((), device="meta", dtype=torch.int64)
    names = [a.name for a in backward.default._schema.arguments if not a.kwarg_only]
    return [(shaped | plain).get(name, seed) for name in names]


def test_flops_list_what_they_did_not_count():
    with StepFlops() as flops:
        torch.ones(3).exp().view(3, 1)

    assert flops.uncounted == {"aten.ones": 1, "aten.exp": 1}
    assert flops.uncounted_bytes == {"aten.ones": 12, "aten.exp": 24}  # read and written


@pytest.mark.parametrize("name", ["addmm", "baddbmm"])
def test_a_product_in_place_counts_as_one_that_is_not(name):
    left, right, total = torch.ones(4, 2, 3), torch.ones(4, 3, 5), torch.zeros(4, 2, 5)
    given = [total, left, right] if name == "baddbmm" else [total[0], left[0], right[0]]
    counted = []
    for ending in ("", "_"):
        with StepFlops() as flops:
            getattr(given[0], name + ending)(*given[1:])
        counted.append(sum(flops.by_phase.values()))

    assert counted == [2 * given[0].numel() * 3] * 2


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("needed", [(True, False), (False, True), (True, True)])
def test_each_gradient_of_a_convolution_counts_as_its_forward_pass(groups, transposed, needed):
    """Of 6 channels each output reads 6 / groups, through 3 x 3 weights."""
    images = torch.ones(2, 6, 4, 4, requires_grad=needed[0])
    weight = torch.ones(6, 6 // groups, 3, 3, requires_grad=needed[1])
    made = (conv_transpose2d if transposed else conv2d)(images, weight, padding=1, groups=groups)
    with StepFlops() as flops:
        made.sum().backward()
    forward = 2 * (2 * 16) * 6 * (6 // groups) * 9

    assert sum(needed) * forward == flops.by_operator["aten.convolution_backward"]


def test_a_product_that_is_not_counted_is_told():
    with StepFlops() as flops:
        torch.mv(torch.ones(2, 3), torch.ones(3)).neg_()

    assert flops.overlooked() == [
        (
            "aten.mv multiplies, according to its name, but was not counted (1 calls); "
            "the number of FLOPs is too low"
        )
    ]


@pytest.mark.parametrize("method", ["bsr", "int8", "sparse", "int4", "checkpoint", "bsr+int8"])
def test_flops_do_not_depend_on_how_a_gradient_is_summed(method, make_six_spec, monkeypatch):
    """In pieces or at once, by running and by predicting: the same multiply-adds."""
    spec = make_six_spec(method, batch=4)
    found = []
    for size in (1, 1 << 30):
        monkeypatch.setattr(packed_operators.chunks, "__defaults__", (size,))
        found += [flop_pass(spec, load), predict(spec, load)]

    assert len({reading.measurements["step_flop"] for reading in found}) == 1
    assert not any("not counted" in note.text for reading in found for note in reading.notes)


def test_tokens_after_a_block_are_those_that_it_passes_on(make_deep_spec):
    """The MLP of a block of ``vqt`` runs again for its queries."""
    read = flop_pass(make_deep_spec("vqt"), load).measurements

    assert read["tokens_after_block"] == [17] * 12


def test_the_flop_pass_observes_parameters_and_tokens(make_deep_spec):
    spec = make_deep_spec("bsr")
    read = flop_pass(spec, load).measurements

    assert read["tokens_after_block"] == list(load("bsr").tokens(17))
    assert read["trained_parameters"] < read["total_parameters"]
    assert read["forward_flop"] < read["step_flop"] < 3 * read["forward_flop"]
