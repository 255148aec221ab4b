"""The meters around a step of one's own agree with those around the program's."""

from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness import profile
from harness.errors import BadInput
from harness.meters.flops import StepFlops
from reports.palette import CATEGORY_COLOURS


@pytest.fixture
def own(make_vit, batch):
    """Return a model, an optimizer and a step as people write them."""
    model = make_vit()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step():
        optimizer.zero_grad()
        cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return model, optimizer, step


def test_categories_add_up_and_known_ones_are_exact(own):
    """Weights, gradients and momentum are as many bytes each."""
    model, optimizer, step = own
    found = profile(model, step, optimizer)
    weights = sum(4 * p.numel() for p in model.parameters())

    assert sum(found.at_peak_bytes.values()) == found.peak_counted_bytes
    assert found.at_peak_bytes["weights"] == weights
    assert found.at_peak_bytes["optimizer"] == weights
    assert found.held_after_forward_bytes > 0
    assert any(name.startswith("blocks.11") for name in found.by_module_bytes)
    assert len(found.step_seconds) == 5


def test_flops_are_split_where_the_backward_pass_begins(own, batch):
    model, _, step = own
    found = profile(model, step)
    with StepFlops() as flops, torch.no_grad():
        model(batch[0])

    assert found.forward_flop == flops.by_phase["forward"]
    assert found.step_flop == pytest.approx(3 * found.forward_flop, rel=0.05)


def test_it_draws_itself(own):
    found = profile(*own[::2], repeats=1)

    drawn = found._repr_html_()

    assert "peak memory (counted): " in str(found)
    assert drawn.count("<tr>") == len(found.rows())
    for category, size in found.at_peak_bytes.items():
        colour = f"background:{CATEGORY_COLOURS[category]}"
        assert drawn.count(colour) == (2 if size else 0)  # in the bar, in its legend


def test_it_shows_the_same_lines_at_a_prompt(own):
    found, said = profile(*own[::2], repeats=1), StringIO()
    found._repr_pretty_(SimpleNamespace(text=said.write), False)

    assert said.getvalue() == str(found)


def test_what_is_no_step_is_said(own):
    with pytest.raises(BadInput, match="function without arguments"):
        profile(own[0], 3)
    with pytest.raises(BadInput, match="at least 1"):
        profile(own[0], own[2], repeats=0)
