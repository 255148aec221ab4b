"""Which of several peaks and forward passes a record's memory is, and what is noted about it."""

import torch

from harness.meters.counted import Category, LiveBytes
from harness.profiler import memory, memory_pass
from methods import load


def test_what_is_held_is_that_of_the_forward_pass_that_holds_most():
    """Two forward passes in a step: one keeps 4000 bytes for its backward pass, the next 400."""
    with LiveBytes() as live:
        for numbers in (1000, 100):
            live.enter_phase("forward")
            kept = torch.ones(numbers)
            live.enter_phase("backward")
            del kept

    assert live.held_after_forward == 4 * 1000


def test_what_was_given_a_category_is_not_held_after_the_forward_pass():
    with LiveBytes() as live:
        weights, kept = torch.ones(10), torch.ones(7)
        live.watch([weights], Category.WEIGHTS)
        live.enter_phase("backward")

    assert live.held_after_forward == kept.nbytes


def test_the_peak_is_a_steady_steps_and_the_first_steps_stands_beside_it(make_spec):
    """Before its first step AdamW has no state: two numbers and a count of 4 bytes a parameter."""
    read = memory_pass(make_spec("head", optimizer="adamw"), load).measurements
    head = 64 * 5 + 5  # test_vit is 64 wide
    state = 2 * 4 * head + 2 * 4

    assert read["optimizer_at_peak_bytes"] == state
    assert read["peak_counted_bytes"] - read["peak_first_step_bytes"] == state


def test_bytes_that_nothing_explains_are_noted(make_spec, monkeypatch):
    """An allocator that takes a MiB more each time than anybody asked for."""
    rise = memory.allocator_rise
    monkeypatch.setattr(memory, "allocator_rise", lambda action: rise(action) + 2**20)
    notes = memory_pass(make_spec(), load).notes

    assert any(note.startswith("unexplained: ") for note in notes)
