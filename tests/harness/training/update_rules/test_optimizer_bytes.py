"""The bytes of every optimizer's state and of the temporaries of its step, by arithmetic."""

import copy
import math

import pytest
import torch

from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.harness.training.update_rules import blockwise_adamw
from bsrbench.harness.training.update_rules.adam_moments import AdamMoments
from bsrbench.harness.training.update_rules.block_codes import BlockCodes
from bsrbench.harness.training.update_rules.blockwise_adamw import BlockwiseAdamW
from bsrbench.harness.training.update_rules.rule_optimizer import Update
from bsrbench.methods import load

WORD = 4


def in_blocks(shape, bits, block):
    """Codes and a scale per block for both moments; in words below 4096 elements."""
    count = math.prod(shape)
    if count < 4096:
        return 2 * WORD * count
    return 2 * -(-count // block) * (block * bits // 8 + WORD)


def factored(shape):
    if len(shape) < 2:
        return WORD * math.prod(shape)
    return WORD * math.prod(shape[:-2]) * (shape[-2] + shape[-1])


def projected(shape, rank, basis, norm):
    """Two moments of longer side x rank, and a basis or a norm."""
    if len(shape) != 2 or min(shape) <= rank(shape):
        return 2 * WORD * math.prod(shape)
    used = rank(shape)
    return WORD * (2 * max(shape) * used + basis * min(shape) * used + norm)


def quarter(shape):
    return max(1, min(shape) // 4)


BYTES = {
    "sgd": lambda shape: WORD * math.prod(shape),
    "adamw": lambda shape: WORD * (2 * math.prod(shape) + 1),  # and a number of steps
    "adamw8": lambda shape: in_blocks(shape, 8, 256),
    "adamw4": lambda shape: in_blocks(shape, 4, 128),
    "adafactor": factored,
    "lion": lambda shape: WORD * math.prod(shape),
    "galore": lambda shape: projected(shape, quarter, basis=1, norm=0),
    "apollo": lambda shape: projected(shape, quarter, basis=0, norm=1),
    "apollo-mini": lambda shape: projected(shape, lambda _: 1, basis=0, norm=1),
}


def cell(border, digits):
    """The place of a number below 1 among cells that have so many binary digits of mantissa."""
    mantissa, exponent = math.frexp(border)  # mantissa from 1/2 to 1
    return (exponent + 126) * 2**digits + int((2 * mantissa - 1) * 2**digits)


# Shared by all parameters: the values of the codes of each byte, and the cells of their look-up
# from the lowest border between two codes to the highest. Negative cells end with -1.
SHARED_CELLS = {
    "adamw8": cell(0.996484375, 6)
    + 1
    + cell(0.9859375, 6)
    + 1  # 1 - 0.9 / 256, 1 - 0.9 / 64
    + cell(0.9982421875, 7)
    - cell(1.625e-7, 7)
    + 1,  # 1 - 0.9 / 512, half of 3.25e-7
    "adamw4": cell(0.94375, 2)
    + 1
    + cell(0.775, 2)
    + 1  # between 0.8875 and 1, and 0.6625
    + cell(15.5 / 16, 3)
    - cell(1.5 / 16, 3)
    + 1,
}
SHARED = {
    "adamw8": WORD * (2 * 256 + SHARED_CELLS["adamw8"]),
    "adamw4": WORD * (2 * 256 * 2 + SHARED_CELLS["adamw4"]),
}


@pytest.mark.parametrize("within", [False, True], ids=["after backward", "in backward"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_counted_state_is_its_arithmetic(optimizer, within, make_spec):
    spec = make_spec(optimizer=optimizer, batch=1, optimizer_in_backward=within)
    job, batch = job_and_batch(spec, load)
    counted_step(job, batch)
    shapes = [tuple(parameter.shape) for parameter in job.trained()]
    expected = sum(map(BYTES[optimizer], shapes)) + SHARED.get(optimizer, 0)

    assert counted_step(job, batch).categories["optimizer"] == expected


def test_sgd_without_momentum_has_no_state(make_spec):
    job, batch = job_and_batch(make_spec(batch=1, momentum=0.0), load)
    counted_step(job, batch)

    assert counted_step(job, batch).categories["optimizer"] == 0


@pytest.mark.parametrize("optimizer", ["adamw8", "adamw4"])
def test_a_resumed_state_shares_its_tables_again(optimizer, make_spec):
    """Loading copies integers for each parameter; after a step there are as many bytes as fresh."""
    spec = make_spec(optimizer=optimizer, batch=1)
    (fresh, batch), (resumed, _) = (job_and_batch(spec, load) for _ in range(2))
    counted_step(fresh, batch)
    (ours,), (theirs,) = resumed.optimizers, fresh.optimizers
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    counted_step(resumed, batch)

    expected = counted_step(fresh, batch).categories["optimizer"]
    assert counted_step(resumed, batch).categories["optimizer"] == expected


def transient(rule, shape):
    """Return the bytes that a second update needs and frees."""
    parameter = torch.ones(shape)
    gradient = torch.rand(shape)
    state = rule.begin(parameter)
    rule.update(parameter, gradient, state, Update(1, 0.1, 0.1, 0))
    with LiveBytes(lambda: "") as live:
        live.watch([parameter, gradient, *state.values()], Category.INPUTS)
        before = live.now
        rule.update(parameter, gradient, state, Update(2, 0.1, 0.1, 0))
    return live.peak - before


@pytest.mark.parametrize("optimizer", ["lion", "apollo"])
def test_the_counter_sees_the_temporary_tensor_of_a_step(optimizer, make_spec):
    """Lion has the signs of a parameter, APOLLO the scaled gradient."""
    job, batch = job_and_batch(make_spec(optimizer=optimizer, batch=1), load)
    counted_step(job, batch)
    steady = counted_step(job, batch)
    largest = max(parameter.numel() for parameter in job.trained())

    assert steady.peak_place.phase == "optimizer"
    assert steady.categories["temporaries"] == WORD * largest


@pytest.mark.parametrize("bits", [8, 4])
def test_the_temporaries_of_blocks_are_bounded(bits, monkeypatch):
    """Two moments, and the places and entries of one of them in words; of one part at a time."""
    part = 2**14
    monkeypatch.setattr(blockwise_adamw, "PARTS", {"cpu": part})
    rule = BlockwiseAdamW(AdamMoments(0.9, 0.999, 1e-8), BlockCodes(bits, 128))
    one, five = (transient(rule, parts * part) for parts in (1, 5))

    assert one == five == 4 * WORD * part
