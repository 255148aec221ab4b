"""Which of several peaks and forward passes a record's memory is, and what is noted about it."""

import pytest
import torch

from bsrbench.harness.meters import process_memory
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.profiler import memory_pass as memory_module
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.methods import load


def test_what_is_held_is_that_of_the_forward_pass_that_holds_most():
    """Two forward passes in a step: one keeps 4000 bytes for its backward pass, the next 400."""
    with LiveBytes() as live:
        for numbers in (1000, 100):
            live.enter_phase("forward")
            kept = torch.ones(numbers)
            live.enter_phase("backward")
            del kept

    assert live.held_by_owner() == {"": 4 * 1000}


def test_what_was_given_a_category_is_not_held_after_the_forward_pass():
    with LiveBytes() as live:
        weights, kept = torch.ones(10), torch.ones(7)
        live.watch([weights], Category.WEIGHTS)
        live.enter_phase("backward")

    assert live.held_by_owner() == {"": kept.nbytes}


def test_what_lives_from_forward_to_backward_is_saved_and_all_else_temporary():
    """At the peak, in the backward pass, 4000 bytes from the forward pass and 40 made since."""
    with LiveBytes() as live:
        kept = torch.ones(1000)
        live.enter_phase("backward")
        made = torch.ones(10)
        at_peak = live.at_peak()[""]
        del made, kept

    assert at_peak == {Category.SAVED_ACTIVATIONS: 4000, Category.TEMPORARIES: 40}


def test_the_kernel_counts_in_kilobytes_of_1024(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("VmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n")
    monkeypatch.setattr(process_memory, "STATUS", status)

    assert process_memory.resident_bytes() == 1000 * 1024
    assert process_memory.high_water_bytes() == 2000 * 1024


def test_the_peak_is_a_steady_steps_and_the_first_steps_stands_beside_it(make_spec):
    """Before its first step AdamW has no state: two numbers and a count of 4 bytes a parameter."""
    read = memory_pass(make_spec("head", optimizer="adamw"), load).measurements
    head = 64 * 5 + 5  # test_vit is 64 wide
    state = 2 * 4 * head + 2 * 4

    assert read["optimizer_at_peak_bytes"] == state
    assert read["peak_counted_bytes"] - read["peak_first_step_bytes"] == state


def test_bytes_that_nothing_explains_are_noted(make_spec, monkeypatch):
    """An allocator that takes a MiB more each time than anybody asked for."""
    rise = memory_module.allocator_rise
    monkeypatch.setattr(memory_module, "allocator_rise", lambda *given: rise(*given) + 2**20)
    notes = memory_pass(make_spec(), load).notes

    assert any(note.text.startswith("unexplained: ") for note in notes)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_sparse_tensor_counts_with_its_indices_and_values(layout):
    """A matrix of 40 x 40 numbers with 40 that are not 0: 4 bytes a value, 8 an index."""
    with LiveBytes() as live:
        diagonal = torch.eye(40)
        sparse = diagonal.to_sparse() if layout == "coo" else diagonal.to_sparse_csr()
        del diagonal
        held = live.now
        del sparse

    # The columns of CSR lie in the storage of the rows and columns from which it is made.
    indices = {"coo": 2 * 40, "csr": 41 + 2 * 40}[layout]
    assert held == 40 * 4 + indices * 8
    assert live.now == 0
