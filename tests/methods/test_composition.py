"""Methods one after the other: which pairs are defined, and what bsr+lora is."""

import re

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.composition import Composed
from bsrbench.harness.method import Unsupported


def trained_names(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_bsr_with_lora_trains_adapters_in_bsrs_blocks_the_final_norm_and_the_head(make_vit):
    prepared = methods.load("bsr+lora").prepare(make_vit())
    adapters = {f"blocks.{i}.attn.qkv.lora_{m}.default.weight" for i in (3, 7, 11) for m in "AB"}
    beside = {"norm.weight", "norm.bias", "head.weight", "head.bias"}

    assert adapters | beside == trained_names(prepared)


def test_bsr_with_lora_follows_the_options_of_both(make_vit):
    method = methods.load(
        "bsr+lora",
        bsr={"trained_blocks": [0, 10], "drop_at": [2]},
        lora={"rank": 2, "targets": ["fc1"]},
    )
    prepared = method.prepare(make_vit())
    # Two blocks, A [2, 32] and B [128, 2]; the final norm 2 x 32; the head 32 x 5 + 5.
    expected = 2 * 2 * (32 + 128) + 64 + 165

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)
    # 16 patches, half of them, the class token and the fused one
    assert (17, 17, *[10] * 10) == method.tokens(17)


def test_bsr_with_lora_starts_from_bsrs_logits(make_vit, batch):
    both = methods.load("bsr+lora").prepare(make_vit())(batch[0])
    alone = methods.load("bsr").prepare(make_vit())(batch[0])

    torch.testing.assert_close(both, alone)


def test_bsr_with_lora_needs_a_block_to_adapt(make_vit):
    method = methods.load("bsr+lora", bsr={"trained_blocks": []})

    with pytest.raises(Unsupported, match="no block trains, so there is no block to adapt"):
        method.prepare(make_vit())


def test_evit_with_lora_trains_what_lora_trains_and_drops_as_evit_does(make_vit, batch):
    method = methods.load("evit+lora")
    both, alone = method.prepare(make_vit()), methods.load("evit").prepare(make_vit())

    assert trained_names(methods.load("lora").prepare(make_vit())) == trained_names(both)
    assert methods.load("evit").tokens(17) == method.tokens(17)
    torch.testing.assert_close(both(batch[0]), alone(batch[0]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "bias+head",
            "bias+head is not defined, because both methods have the kind 'selects weights'",
        ),
        (
            "bsr+dora",
            "bsr+dora is not defined, because both methods have the kind 'selects weights'",
        ),
        (
            "evit+bias",
            "evit+bias is not defined, because both methods have the kind 'selects weights'",
        ),
        ("lora+bsr", "of different kinds; bsr+lora is defined"),
        ("bsr+evit", "both methods have the kinds 'drops tokens' and 'selects weights'"),
        ("checkpoint+int8", "both methods have the kind 'stores activations'"),
        ("int8+checkpoint", "both methods have the kind 'stores activations'"),
        ("bsr+int8+head", "bsr+head is not defined"),
        ("bsr+lora+bias", "bsr+bias is not defined"),
    ],
)
def test_two_methods_of_one_kind_are_refused_before_the_model_changes(name, said, make_vit):
    model = make_vit()

    with pytest.raises(Unsupported, match=re.escape(said)):
        methods.load(name).prepare(model)

    assert all(parameter.requires_grad for parameter in model.parameters())
    assert make_vit().state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("bsr", "evit"),
        ("evit", "bsr"),
        ("lora", "dora"),
        ("dora", "lora"),
        ("head", "full"),
        ("bias", "norm"),
        ("norm", "lora"),
        ("lora", "bsr"),
        ("bsr+lora", "lora"),
    ],
)
def test_a_model_that_another_method_prepared_is_refused_and_left_alone(first, then, make_vit):
    model = methods.load(first).prepare(make_vit())
    before = trained_names(model), [type(module) for module in model.modules()]

    with pytest.raises(Unsupported, match="already prepared"):
        methods.load(then).prepare(model)

    assert before == (trained_names(model), [type(module) for module in model.modules()])


def test_different_places_to_drop_do_not_hide_that_a_model_drops_already(make_vit):
    model = methods.load("evit", drop_at=[2]).prepare(make_vit())

    with pytest.raises(Unsupported, match="it has blocks that drop tokens"):
        methods.load("bsr").prepare(model)


def test_only_a_method_that_says_so_refines_another(make_vit):
    with pytest.raises(Unsupported, match="head does not refine a VisionTransformer"):
        methods.load("head").refine(make_vit())


@pytest.mark.parametrize("name", ["evit+checkpoint", "checkpoint+evit"])
def test_the_steps_of_a_composition_reach_its_parts(name, make_vit, batch):
    method = methods.load(name, evit={"shrink_start": 1, "fuse": False})
    model = method.prepare(make_vit())
    seen = []
    model.blocks[3].mlp.register_forward_hook(lambda *call: seen.append(call[-1].shape[1]))
    for _ in range(2):
        with torch.no_grad():
            model(batch[0])
        method.step_done()

    # 17 tokens, then the class token and ceil(0.7 x 16)
    assert [17, 13] == seen


@pytest.mark.parametrize("name", ["bsr", "evit", "tome"])
def test_checkpointing_surrounds_blocks_that_change_tokens_in_either_order(name, make_vit, batch):
    kept = []
    for both in (f"{name}+checkpoint", f"checkpoint+{name}"):
        model = methods.load(both).prepare(make_vit())
        numbers = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=numbers: seen.append(t.numel()) or t, lambda t: t
        ):
            model(batch[0])
        kept.append(numbers)

    assert kept[0] == kept[1]


def test_facts_of_a_composition_follow_from_its_parts():
    method = methods.load("bsr+int8")

    assert isinstance(method, Composed)
    assert not method.exact_forward
    assert method.gradient_error == methods.find("int8").gradient_error
    assert re.search("BSR.* [+] .*Mesa", method.source)


def test_the_bound_grows_where_a_part_says_so():
    """0.12 of int8, 2.5 times as much in the narrow blocks of a ladder."""
    assert 0.3 == pytest.approx(methods.load("ladder+int8").gradient_error)
