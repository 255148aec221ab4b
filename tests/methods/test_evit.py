"""What the EViT paper and its official code state."""

import io
import math

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported


def keep_rates(prepared, images):
    """Return the share of the tokens beside the class token that block 3 keeps."""
    seen = []
    handle = prepared.blocks[3].mlp.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        prepared(images)
    handle.remove()
    return (seen[0].shape[1] - 1) / 16


def test_every_parameter_trains(make_vit):
    prepared = methods.load("evit").prepare(make_vit())

    assert all(parameter.requires_grad for parameter in prepared.parameters())


@pytest.mark.parametrize(
    ("keep_rate", "expected"),
    # 196 patches, rounded up, and the class token and the extra one:
    [
        (0.5, (100, 52, 28)),  # 98; of 99: 49.5; of 51: 25.5
        (0.7, (140, 100, 72)),  # 137.2; of 139: 97.3; of 99: 69.3
        (0.9, (179, 163, 148)),  # 176.4; of 178: 160.2; of 162: 145.8
    ],
)
def test_has_the_token_counts_of_its_rule(keep_rate, expected):
    counts = methods.load("evit", keep_rate=keep_rate).tokens(197)

    assert (*[197] * 3, *(count for count in expected for _ in range(3))) == counts


def test_computes_what_bsr_computes_and_trains_more(make_vit, batch):
    ours = methods.load("evit", keep_rate=0.5).prepare(make_vit())(batch[0])
    theirs = methods.load("bsr", keep_rate=0.5).prepare(make_vit())(batch[0])

    assert torch.equal(ours, theirs)


def test_keeps_the_rate_constant_by_default(make_vit, batch):
    method = methods.load("evit", keep_rate=0.5, fuse=False)
    model = method.prepare(make_vit())
    seen = []
    for _ in range(3):
        seen.append(keep_rates(model, batch[0]))
        method.step_done()

    assert [0.5, 0.5, 0.5] == seen


@pytest.mark.parametrize("training", [True, False])
def test_shrinks_the_rate_along_half_a_cosine(training, make_vit, batch):
    """Three steps at 1, four down to 0.5; in evaluation the rate in force is used."""
    method = methods.load("evit", keep_rate=0.5, fuse=False, shrink_start=3, shrink_steps=4)
    model = method.prepare(make_vit()).train(training)
    seen = []
    for _ in range(10):
        seen.append(keep_rates(model, batch[0]))
        method.step_done()
    cosine = [math.cos(math.pi * step / 4) for step in range(4)]  # 1, 0.707, 0, -0.707
    rates = [1, 1, 1, *(0.5 + 0.25 * (1 + c) for c in cosine), 0.5, 0.5, 0.5]

    assert [math.ceil(16 * rate) / 16 for rate in rates] == seen
    # 1 .. 1, ceil(14.83), 12, ceil(9.17), 8 of 16: falling, and final at step 7
    assert [16, 16, 16, 16, 15, 12, 10, 8, 8, 8] == [16 * share for share in seen]


def test_jumps_where_there_are_no_steps_to_shrink_in(make_vit, batch):
    method = methods.load("evit", keep_rate=0.5, fuse=False, shrink_start=2)
    model = method.prepare(make_vit())
    seen = []
    for _ in range(4):
        seen.append(keep_rates(model, batch[0]))
        method.step_done()

    assert [1, 1, 0.5, 0.5] == seen


def test_the_steps_done_are_saved_and_loaded(make_vit, batch):
    options = {"keep_rate": 0.5, "fuse": False, "shrink_start": 3}
    first, second = methods.load("evit", **options), methods.load("evit", **options)
    trained, loaded = first.prepare(make_vit()), second.prepare(make_vit(seed=1))
    first.step_done()
    first.step_done()
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    before = keep_rates(loaded, batch[0])
    second.step_done()

    assert (1, 0.5) == (before, keep_rates(loaded, batch[0]))


def test_the_state_dict_is_the_models_own_without_a_schedule(make_vit):
    prepared = methods.load("evit").prepare(make_vit())

    assert list(make_vit().state_dict()) == list(prepared.state_dict())


def test_a_count_of_steps_is_no_option():
    method = methods.load("evit", shrink_start=3)
    method.step_done()

    assert methods.load("evit", shrink_start=3) == method


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep_rate": 0.0}, "keep_rate 0.0 must lie in"),
        ({"keep_rate": 1.1}, "keep_rate 1.1 must lie in"),
        ({"drop_at": [3, 3]}, "different blocks counted from 0"),
        ({"shrink_start": -1}, "shrink_start -1 must be at least 0"),
        ({"shrink_steps": -1}, "shrink_steps -1 must be at least 0"),
        ({"shrink_steps": 1.5}, "shrink_steps"),
        ({"trained_blocks": [3]}, "trained_blocks"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("evit", **options)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"class_token": False, "global_pool": "avg"}, {}, "no class token"),
        ({"reg_tokens": 4}, {}, "5 leading tokens"),
        ({"depth": 14}, {}, "default drop_at is the paper's choice for 12 blocks"),
        ({}, {"drop_at": [12]}, r"drop_at names blocks \[12\]"),
    ],
)
def test_says_what_a_model_lacks(changes, options, said, make_vit):
    with pytest.raises(Unsupported, match=said):
        methods.load("evit", **options).prepare(make_vit(**changes))
