"""To which module an operator is put down, forward, backward and when it is run again."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bsrbench.harness.meters.live_bytes import LiveBytes
from bsrbench.harness.meters.operator_modules import OF_NO_MODULE, OperatorModules


@pytest.fixture
def layers():
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 5))


def watched(model, inputs):
    """Run a step and return (operator, module) of its forward pass and of its backward pass."""
    with OperatorModules(model) as owner, LiveBytes(owner.now) as live:
        loss = model(inputs).sum()
        live.enter_phase("backward")
        loss.backward()

        assert owner.now() == OF_NO_MODULE
    line = live.timeline
    ran = list(zip(line.phase, line.operator, line.module, strict=True))
    return tuple(
        [(operator.removeprefix("aten."), module) for phase, operator, module in ran if phase == at]
        for at in ("forward", "backward")
    )


def of(ran, *operators):
    return [(operator, module) for operator, module in ran if operator in operators]


def test_an_operator_of_the_forward_pass_belongs_to_the_innermost_module(layers):
    """The sum after the model belongs to no module."""
    forward, _ = watched(nn.Sequential(layers), torch.ones(2, 3))

    assert of(forward, "addmm.default", "gelu.default", "sum.default") == [
        ("addmm.default", "0.0"),
        ("gelu.default", "0.1"),
        ("addmm.default", "0.2"),
        ("sum.default", OF_NO_MODULE),
    ]


def test_an_operator_of_the_backward_pass_belongs_to_the_module_that_made_its_node(layers):
    """The last Linear gives gradients to input and weight, the first, of plain data, to weight."""
    _, backward = watched(layers, torch.ones(2, 3))

    assert of(backward, "mm.default", "gelu_backward.default") == [
        ("mm.default", "2"),
        ("mm.default", "2"),
        ("gelu_backward.default", "1"),
        ("mm.default", "0"),
    ]


def test_what_follows_the_last_module_belongs_to_none_in_the_backward_pass_too(layers):
    """The sum's gradient is expanded by a node that no module made."""
    _, backward = watched(layers, torch.ones(2, 3))

    assert of(backward, "expand.default") == [("expand.default", OF_NO_MODULE)]


class Borrowing(nn.Module):
    """Uses another module's weight without running it."""

    def __init__(self):
        super().__init__()
        self.lender = nn.Linear(3, 4, bias=False)

    def forward(self, x):
        return F.linear(x, self.lender.weight)


def test_adding_up_a_gradient_belongs_to_the_module_of_the_parameter():
    """The product's gradient is the borrower's, whose node it is; the sum goes to the lender."""
    model = nn.Sequential(Borrowing())
    model(torch.ones(2, 3)).sum().backward()
    _, backward = watched(model, torch.ones(2, 3))

    assert of(backward, "mm.default", "add_.Tensor") == [
        ("mm.default", "0"),
        ("add_.Tensor", "0.lender"),
    ]


class Recomputed(nn.Module):
    """Runs its part again in the backward pass."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return checkpoint(self.part, x, use_reentrant=False)


def test_what_is_recomputed_belongs_to_the_modules_that_compute_it(layers):
    """Torch ends the second run once the last Linear has saved its input: before its product.

    It leaves two modules by an exception, and what follows belongs to neither.
    """
    model = nn.Sequential(nn.Linear(3, 3), Recomputed(layers))
    _, backward = watched(model, torch.ones(2, 3))
    named = ("addmm.default", "gelu.default", "mm.default", "gelu_backward.default")

    assert of(backward, *named) == [
        ("addmm.default", "1.part.0"),
        ("gelu.default", "1.part.1"),
        ("mm.default", "1.part.2"),
        ("mm.default", "1.part.2"),
        ("gelu_backward.default", "1.part.1"),
        ("mm.default", "1.part.0"),
        ("mm.default", "1.part.0"),
        ("mm.default", "0"),
    ]


class Frozen(nn.Module):
    """Runs its part without a graph."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    @torch.no_grad()
    def forward(self, x):
        return self.part(x)


def test_a_frozen_part_without_a_graph_owns_its_forward_pass_and_nothing_else(layers):
    model = nn.Sequential(Frozen(layers), nn.Linear(5, 2))
    forward, backward = watched(model, torch.ones(2, 3))

    assert [module for _, module in of(forward, "addmm.default")] == ["0.part.0", "0.part.2", "1"]
    assert [module for _, module in of(backward, "mm.default")] == ["1"]
    assert {module for _, module in backward} == {"1", OF_NO_MODULE}


def hooks(model):
    return [
        hook
        for module in model.modules()
        for found in (module._forward_hooks, module._forward_pre_hooks)
        for hook in found.values()
    ]


def test_hooks_are_gone_afterwards(layers):
    with OperatorModules(layers):
        watching = len(hooks(layers))
        layers(torch.ones(2, 3))

    assert watching == 2 * 4  # the Sequential and its three layers
    assert hooks(layers) == []


def test_hooks_are_gone_after_a_module_failed_and_so_is_the_module(layers):
    owner = OperatorModules(layers)
    with pytest.raises(RuntimeError, match="shapes"), owner:
        layers(torch.ones(2, 7))

    assert hooks(layers) == []
    assert owner.now() == OF_NO_MODULE
