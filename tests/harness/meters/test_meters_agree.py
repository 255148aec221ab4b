"""Meters of memory and time against known quantities and each other."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from bsrbench.harness.meters import phase_clock, process_memory
from bsrbench.harness.meters.allocator_events import allocator_rise
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.harness.profiler.process_pass import process_pass
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.training.kept_storages import storages, total_bytes
from bsrbench.methods import load

MIB = 2**20
KERNEL_GRAIN = MIB  # what the kernel's mark may miss or add: pages, stacks, small blocks


def allocate(mebibytes):
    return torch.empty(mebibytes * MIB, dtype=torch.uint8).fill_(1)


def up_and_down():
    """Hold 4 MiB, then 4 + 8, then 4 + 2: the peak is 12 MiB."""
    kept = allocate(4)
    del_me = allocate(8)
    del del_me
    return kept, allocate(2)


def test_counted_and_allocated_see_a_known_peak_to_the_byte():
    with LiveBytes() as live:
        up_and_down()

    assert live.peak == 12 * MIB
    assert allocator_rise(up_and_down) == 12 * MIB


KERNEL_PROBE = """
import torch
from bsrbench.harness.meters import process_memory
MIB = 2**20
def up_and_down():
    kept, gone = (torch.empty(n * MIB, dtype=torch.uint8).fill_(1) for n in (4, 8))
    del gone
    return kept, torch.empty(2 * MIB, dtype=torch.uint8).fill_(1)
process_memory.pin_malloc()
up_and_down()  # the code itself becomes resident the first time
process_memory.reset_high_water()
before = process_memory.resident_bytes()
up_and_down()
print(process_memory.high_water_bytes() - before)
"""


def test_the_kernel_sees_a_known_peak():
    """In a fresh process: an old one has free memory that it need not ask the kernel for."""
    command = [sys.executable, "-c", KERNEL_PROBE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert int(said) == pytest.approx(12 * MIB, abs=KERNEL_GRAIN)


def test_counted_counts_a_storage_once_however_it_is_seen():
    with LiveBytes() as live:
        x = torch.ones(1000)
        x.view(10, 100).t()[2:].add_(1)
        same = x.detach()
        live.watch([x, same, x[5:]], Category.INPUTS)

        assert live.now == 4000
    assert total_bytes(storages([x, same, x[5:]])) == 4000


def test_counted_counts_one_device_where_it_is_told_to():
    """Tensors without numbers stand for those of another device."""
    with LiveBytes(device="meta") as live:
        here, there = torch.ones(1000), torch.ones(500, device="meta")
        live.watch([here, there], Category.INPUTS)
        moved = there.double()

        assert live.now == 500 * 4 + 500 * 8
    del here, there, moved


def test_counted_forgets_what_died():
    with LiveBytes() as live:
        x = torch.ones(1000)
        del x

        assert (live.now, live.peak) == (0, 4000)


def test_counted_sees_tensors_kept_by_hooks_and_custom_functions():
    class Keeper(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.kept = x.to(torch.float64)  # not through save_for_backward
            return x.clone()

        @staticmethod
        def backward(_, gradient):
            return gradient

    x = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        output = Keeper.apply(x)

        assert live.now == 8000 + 4000
    del output


HIDDEN_BYTES = 1024  # scalars that autograd makes outside any operator


ALONE = [(method, {}) for method in ("full", "head", "bias", "lora", "int8", "checkpoint", "bsr")]
OTHERWISE = [
    (method, changes)
    for method in ("full", "int8", "bsr")
    for changes in ({"micro_batch": 1}, {"precision": "bf16"}, {"precision": "fp16"})
]


@pytest.mark.parametrize(("method", "changes"), [*ALONE, *OTHERWISE], ids=str)
def test_counted_and_allocated_agree_on_a_training_step(method, changes, make_deep_spec):
    """Workspaces inside operators explain the difference to the byte."""
    reading = memory_pass(make_deep_spec(method, optimizer="adamw", **changes), load)
    counted = reading.measurements["peak_counted_bytes"]
    allocated = reading.measurements["peak_allocated_bytes"]

    assert reading.notes == ()
    assert counted <= allocated
    assert abs(reading.detail.allocated.unexplained_bytes) <= HIDDEN_BYTES


def test_a_leak_between_steps_is_noted(make_spec):
    leaked = []

    def leaking(name, **options):
        method = load(name, **options)
        object.__setattr__(method, "step_done", lambda: leaked.append(torch.ones(10)))
        return method

    assert memory_pass(make_spec(), leaking).notes == (
        Note(NoteKind.MEMORY, "steps leave tensors behind: 40 and then 40 bytes"),
    )


def test_the_process_needs_what_was_allocated_and_little_more(make_deep_spec, launcher):
    """Buffers of libraries and small blocks come on top: at most 40 MiB, at least nothing."""
    spec = make_deep_spec("full", batch=8, image_size=112)
    allocated, seen = (
        launcher.perform(name, spec).readings().measurements[metric]
        for name, metric in (
            ("memory", "peak_allocated_bytes"),
            ("process", "peak_process_bytes"),
        )
    )

    assert 0.98 * allocated < seen < allocated + 40 * MIB


def test_what_proc_does_not_show_is_missing_with_a_reason(make_spec, monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "CLEAR_REFS", tmp_path / "gone" / "clear_refs")
    reading = process_pass(make_spec(), load)

    assert reading.measurements == {}
    assert "cannot be written" in reading.missing["peak_process_bytes"].text


def test_the_clock_synchronises_around_every_sample():
    events = []
    samples = phase_clock.seconds_each(
        lambda: events.append("run"), 2, lambda: events.append("wait")
    )

    assert events == ["wait", "run", "wait"] * 2
    assert len(samples) == 2
    assert all(sample > 0 for sample in samples)


def test_the_clock_pass_runs_with_no_meter_attached(make_spec):
    """Nothing of ours or torch's watches operators or modules while time is taken."""
    seen, models = [], []

    def spying(name, **options):
        method = load(name, **options)
        prepare = type(method).prepare
        object.__setattr__(method, "prepare", lambda m: models.append(m) or prepare(method, m))
        object.__setattr__(method, "step_done", lambda: seen.append(attached(models[0])))
        return method

    clock_pass(make_spec(), spying)

    assert len(seen) >= 3  # warm-up, step, phases
    assert set(seen) == {(None, False, 0)}


def attached(model):
    """Return the operator mode, whether the profiler runs, and how many hooks modules have."""
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )
    return _get_current_dispatch_mode(), torch.autograd._profiler_enabled(), hooks


def test_all_passes_but_the_clock_run_nine_steps(make_spec):
    """Memory 5, process 3, FLOPs 1."""
    steps = []

    def counting(name, **options):
        method = load(name, **options)
        object.__setattr__(method, "step_done", lambda: steps.append(1))
        return method

    for one_pass in (memory_pass, process_pass, flop_pass):
        one_pass(make_spec(), counting)

    assert len(steps) == 9


def test_module_hooks_of_the_flop_pass_are_gone_afterwards(make_spec):
    models = []

    def remembering(name, **options):
        method = load(name, **options)
        prepare = type(method).prepare
        object.__setattr__(method, "prepare", lambda m: models.append(m) or prepare(method, m))
        return method

    flop_pass(make_spec(), remembering)

    assert not any(
        module._forward_hooks for module in models[0].modules() if isinstance(module, nn.Module)
    )
