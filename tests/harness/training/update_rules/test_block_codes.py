"""Codes of 8 and 4 bits against a slow search, and AdamW with them against AdamW."""

import pytest
import torch

from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.update_rules import blockwise_adamw
from bsrbench.harness.training.update_rules.block_codes import BlockCodes
from bsrbench.harness.training.update_rules.choice import rule_of
from bsrbench.harness.training.update_rules.code_tables import (
    code_table,
    dynamic_values,
    even_values,
)
from bsrbench.harness.training.update_rules.rule_optimizer import RuleOptimizer

CPU = torch.device("cpu")
# torchao, optim/subclass_4bit.py: create_dynamic_map(True, 3, 4)
SIGNED_4 = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]


def test_values_of_4_bits_are_those_of_torchao():
    negative = [-value for value in reversed(SIGNED_4)]

    assert dynamic_values(4, signed=True) == pytest.approx([*negative, 0.0, *SIGNED_4, 1.0])
    assert even_values(4) == [code / 16 for code in range(1, 17)]


@pytest.mark.parametrize("signed", [True, False])
def test_values_of_8_bits_have_seven_decades(signed):
    """Signed: 64 values of each sign between 0.1 and 1; unsigned: 128. 1e-6 x 0.55 is smallest."""
    values = dynamic_values(8, signed=signed)
    smallest = 0.55e-6 if signed else 0.325e-6

    assert len(set(values)) == 256
    assert min(value for value in values if value > 0) == pytest.approx(smallest)
    assert len([value for value in values if 0.1 < value < 1]) == (64 if signed else 128)
    assert values[-1] == 1.0


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("count", [64, 100, 1])
def test_each_number_takes_the_nearest_value_of_its_block(bits, count):
    stored, values = BlockCodes(bits, 32), torch.tensor(dynamic_values(bits, signed=True))
    table = code_table(values.tolist(), CPU)
    numbers = torch.randn(count, generator=torch.Generator().manual_seed(0))
    codes, scales = stored.begin(count, numbers)
    stored.write(numbers.clone(), codes, scales, table)
    expected = []
    for block in numbers.split(32):
        scale = block.abs().max()
        expected += [min(values, key=lambda v, x=x: abs(v - x / scale)) * scale for x in block]

    assert torch.equal(stored.read(codes, scales, table, count), torch.stack(expected))
    assert codes.nbytes == -(-count // 32) * 32 * bits // 8


@pytest.mark.parametrize("bits", [8, 4])
def test_a_block_of_zeros_stays_zero(bits):
    stored, table = BlockCodes(bits, 32), code_table(dynamic_values(bits, signed=True), CPU)
    codes, scales = stored.begin(64, torch.zeros(64))
    stored.write(torch.zeros(64), codes, scales, table)

    assert not bool(stored.read(codes, scales, table, 64).any())


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("nan")])
def test_a_block_with_a_number_that_is_not_finite_is_not_finite(number, bits):
    """The other block is as it was; nothing outside the tables is read."""
    stored, table = BlockCodes(bits, 32), code_table(dynamic_values(bits, signed=True), CPU)
    codes, scales = stored.begin(64, torch.zeros(64))
    numbers = torch.ones(64)
    numbers[3] = number
    stored.write(numbers, codes, scales, table)
    first, second = stored.read(codes, scales, table, 64).view(2, 32)

    assert not bool(first.isfinite().any())
    assert torch.equal(second, torch.ones(32))


@pytest.mark.parametrize(
    "values",
    [
        dynamic_values(8, signed=True),
        dynamic_values(8, signed=False),
        dynamic_values(4, signed=True),
        even_values(4),
    ],
    ids=["8 bits", "8 bits, squares", "4 bits", "4 bits, squares"],
)
def test_a_look_up_finds_what_a_search_among_the_borders_finds(values):
    """Each border with its neighbours in fp32, every power of two, and random numbers."""
    known = torch.tensor(values)
    borders = (known[1:] + known[:-1]) / 2
    random = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    powers = 2.0 ** -torch.arange(0.0, 149.0)
    sizes = torch.cat([borders.abs(), random, random**8, powers, torch.zeros(1)])
    up, down = sizes.nextafter(torch.ones(1)), sizes.nextafter(torch.zeros(1))
    numbers = torch.cat([sizes, up, down])
    if min(values) < 0:
        numbers = torch.cat([numbers, -numbers])
    expected = torch.bucketize(numbers, borders)

    assert torch.equal(code_table(values, CPU).codes(numbers.clone()).long(), expected)


def fitted(make, steps=100):
    """Fit a matrix [72, 64] to a random one by noisy gradients; return the start and the end."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(72, 64, generator=generator)
    parameter = torch.nn.Parameter(torch.zeros(72, 64))
    optimizer = make(parameter)
    for _ in range(steps):
        inputs = torch.randn(32, 64, generator=generator)
        loss = (inputs @ (parameter - target).T).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    fit = parameter.detach()
    return fit, float((fit - target).norm() / target.norm())


def blockwise(name):
    def make(parameter):
        rule = rule_of(Workload(model="test_vit", batch=1, optimizer=name))
        groups = [{"params": [parameter], "lr": 0.01, "weight_decay": 0.0}]
        return RuleOptimizer(groups, name, rule, {parameter: 0})

    return make


@pytest.mark.parametrize(
    ("name", "distance", "worse"), [("adamw8", 0.02, 0.005), ("adamw4", 0.25, 0.05)]
)
def test_a_hundred_steps_end_near_those_of_adamw(name, distance, worse):
    """The distance is relative to the way that AdamW goes, and to the target."""
    plain, rest = fitted(lambda p: torch.optim.AdamW([p], lr=0.01, weight_decay=0.0))
    ours, our_rest = fitted(blockwise(name))

    assert rest < 0.6
    assert 0 < float((ours - plain).norm() / plain.norm()) < distance
    assert our_rest == pytest.approx(rest, abs=worse)


@pytest.mark.parametrize("name", ["adamw8", "adamw4"])
def test_the_size_of_a_part_does_not_change_a_bit(name, monkeypatch):
    whole, _ = fitted(blockwise(name), steps=3)
    monkeypatch.setattr(blockwise_adamw, "PARTS", {"cpu": 1024})
    in_parts, _ = fitted(blockwise(name), steps=3)

    assert torch.equal(in_parts, whole)
