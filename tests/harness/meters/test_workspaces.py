"""What operators take for themselves, against known amounts, and what no operator takes."""

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.meters.allocator_events import allocator_rise, workspaces
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from tests.trial_records import ran_in

HERE = [methods.usable(name) for name in methods.names() if methods.load(name).made_for("cpu")]
MIB = 2**20
HIDDEN_BYTES = 1024  # scalars that autograd and fused optimizers make outside any operator
OUTSIDE_BYTES = 96 * MIB
KERNEL_GRAIN = MIB  # what the kernel's mark may miss or add: pages, stacks, small blocks

KEPT = []


def allocate(mebibytes):
    return torch.empty(mebibytes * MIB, dtype=torch.uint8)


@torch.library.custom_op("bsrbench_tests::scratch", mutates_args=())
def scratch(x: torch.Tensor) -> torch.Tensor:
    """Take 4 MiB and give them back before the output is made, which is as large as ``x``."""
    taken = allocate(4)
    del taken
    return x.clone()


@torch.library.custom_op("bsrbench_tests::hoards", mutates_args=())
def hoards(x: torch.Tensor) -> torch.Tensor:
    """Take 2 MiB and keep them, though they are no output."""
    KEPT.append(allocate(2))
    return x.clone()


@pytest.fixture
def patches():
    """Return what runs the backward pass of a patch embedding, its forward pass done before."""
    torch.manual_seed(0)
    embedding = nn.Conv2d(3, 64, 16, 16)
    images = torch.randn(8, 3, 64, 64)
    gradient = torch.randn(8, 64, 4, 4)

    def backward():
        output = embedding(images)
        return torch.autograd.grad(output, list(embedding.parameters()), gradient)

    backward()  # oneDNN makes its kernels the first time
    return backward


def test_operators_without_workspace_have_none():
    """Holds two outputs of 4 MiB; views and operators in place take nothing.

    No plain numbers among the operands: each would become a tensor of a few bytes.
    """

    def action():
        return torch.empty(MIB).view(2, -1).neg_().exp()

    found = workspaces(action)

    assert (8 * MIB, 0, 0) == (found.rise, found.at_peak, found.hidden_at_peak)
    assert found.largest == {}


def test_an_action_without_operators_rises_by_nothing():
    found = workspaces(lambda: None)

    assert (0, 0, 0) == (found.rise, found.at_peak, found.hidden_at_peak)
    assert (None, None) == (found.operator_at_peak, found.name_at_peak)


def test_an_output_is_no_workspace_even_if_nobody_keeps_it():
    """The sum is freed at once, but after its operator."""
    found = workspaces(lambda: torch.ones(MIB).sum().item())

    assert found.at_peak == 0
    assert found.largest == {}


def test_scratch_memory_of_an_operator_is_seen_to_the_byte():
    x = torch.ones(MIB // 4)
    found = workspaces(lambda: scratch(x))

    assert found.largest == {"bsrbench_tests.scratch.default": 4 * MIB}
    assert (found.rise, found.at_peak) == (4 * MIB, 4 * MIB)
    assert found.name_at_peak == "bsrbench_tests.scratch.default"
    assert found.outputs_to_come == MIB  # the scratch is gone before the output is made
    assert found.hidden_at_peak == 0


def test_the_most_of_several_calls_is_listed_and_the_peak_may_lie_elsewhere():
    """Scratch of 4 MiB in each of two calls, then 8 MiB of outputs beside one of 1 MiB."""
    x = torch.ones(MIB // 4)

    def action():
        kept = scratch(x), scratch(x)
        return kept, allocate(8)

    found = workspaces(action)

    assert found.largest == {"bsrbench_tests.scratch.default": 4 * MIB}
    assert (found.rise, found.at_peak) == (2 * MIB + 8 * MIB, 0)
    assert found.name_at_peak == "aten.empty.memory_format"


def test_a_block_that_outlives_its_operator_and_is_no_output_is_hidden():
    KEPT.clear()
    x = torch.ones(MIB // 4)
    found = workspaces(lambda: hoards(x))

    assert (found.rise, found.at_peak, found.hidden_at_peak) == (3 * MIB, 0, 2 * MIB)
    assert found.largest == {}


def test_a_convolution_s_backward_has_workspaces(patches):
    """The allocator rises with marks on operators as it does without."""
    found = workspaces(patches)

    assert found.largest["aten.convolution_backward.default"] > 0
    assert found.at_peak > 0
    assert found.name_at_peak == "aten.convolution_backward.default"
    assert found.rise == allocator_rise(patches)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in [*HERE, "bsr+int8"]),
        ("full", {"optimizer_in_backward": True}),
    ],
    ids=str,
)
def test_tensors_and_workspaces_explain_what_is_allocated(name, changes, make_six_spec):
    reading = memory_pass(make_six_spec(name, **changes), methods.load)
    read, found = reading.measurements, reading.detail.allocated

    assert reading.notes == ()
    assert abs(found.unexplained_bytes) <= HIDDEN_BYTES
    assert read["peak_allocated_bytes"] == (
        found.counted_at_allocated_peak_bytes + read["workspace_bytes"] + found.unexplained_bytes
    )


ELSEWHERE = f'''
import threading
from dataclasses import dataclass
import torch
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Elsewhere(Method):
    """Full fine-tuning beside a thread that holds a tensor from the head on."""
    bytes: int = {OUTSIDE_BYTES}
    source = "a test"
    exact_forward = True
    kinds = frozenset({{Kind.SELECTS_WEIGHTS}})

    def prepare(self, model):
        held, done = threading.Event(), threading.Event()

        def hold():
            taken = torch.ones(self.bytes, dtype=torch.uint8)
            held.set()
            done.wait()
            del taken

        def start(*_):
            held.clear(), done.clear()
            thread = threading.Thread(target=hold)
            thread.start()
            held.wait()
            threads.append(thread)

        threads = []
        object.__setattr__(self, "end", lambda: (done.set(), threads.pop().join()))
        model.head.register_forward_hook(start)
        return model

    def step_done(self):
        self.end()
'''


@pytest.fixture
def elsewhere(tmp_path):
    path = tmp_path / "elsewhere.py"
    path.write_text(ELSEWHERE)
    return f"{path}:Elsewhere"


def test_another_thread_s_tensors_are_seen_by_the_process_alone_and_flagged(
    elsewhere, launcher, make_spec
):
    """The same method with an empty tensor in the thread is neither larger nor flagged."""
    notes, seen = {}, {}
    for size in (0, OUTSIDE_BYTES):
        spec = make_spec(elsewhere, options={"bytes": size})
        results = {name: launcher.perform(name, spec) for name in ("memory", "process")}
        record, _ = make_record("key", spec, results, ran_in())
        notes[size], seen[size] = record.notes, record.measurements

    for metric in ("peak_counted_bytes", "peak_allocated_bytes", "workspace_bytes"):
        assert seen[0][metric] == seen[OUTSIDE_BYTES][metric]
    assert OUTSIDE_BYTES == pytest.approx(
        seen[OUTSIDE_BYTES]["peak_process_bytes"] - seen[0]["peak_process_bytes"],
        abs=4 * KERNEL_GRAIN,
    )
    assert notes[0] == ()
    (note,) = notes[OUTSIDE_BYTES]
    assert note.text.startswith(f"residual of {seen[OUTSIDE_BYTES]['residual_bytes']} bytes: ")
    assert "another thread" in note.text


@pytest.mark.parametrize(
    ("process", "workspace", "noted"),
    [(120, 0, False), (140, 0, True), (70, 50, False), (70, 10, True)],
)
def test_a_residual_that_nothing_explains_is_noted(process, workspace, noted, make_spec):
    """MiB over 100 allocated: up to 34 are code and libraries, a workspace may stay untouched."""
    values = {"peak_allocated_bytes": 100, "peak_process_bytes": process}
    read = {name: size * MIB for name, size in (values | {"workspace_bytes": workspace}).items()}
    passes = {"memory": PassResult(reading=PassReadings(read))}
    record, _ = make_record("k", make_spec(), passes, ran_in())

    assert record.measurements["residual_bytes"] == (process - 100) * MIB
    assert all(note.text.startswith("residual of ") for note in record.notes)
    assert bool(record.notes) == noted
