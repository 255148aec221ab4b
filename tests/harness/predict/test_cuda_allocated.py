"""The predicted peak of a GPU's allocator, against ten records of an H100 and made-up steps."""

import json
from pathlib import Path

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.devices.gpu_properties import H100, GpuProperties
from bsrbench.harness.meters.live_bytes import Life, Timeline
from bsrbench.harness.predict.cuda_allocated import TENSORS, UNUSED, allocated_prediction
from bsrbench.harness.predict.cuda_workspaces import OperatorMemory, operator_memory
from bsrbench.harness.predict.library_workspaces import library_workspaces
from bsrbench.harness.predict.step_cost import step_cost

ROWS = json.loads((Path(__file__).parent / "h100_memory.json").read_text(encoding="utf-8"))["rows"]
# When the records were made, a block that drops tokens held the output of its attention until the
# end of its MLP: 128 images, 197 tokens, width 384.
FREED_SINCE = {"bsr+checkpoint": 128 * 197 * 384 * 4}
MIB = 2**20
KIB = 2**10
AMPERE = GpuProperties("NVIDIA A10", (8, 6), 72, 1536)
NONE = OperatorMemory()
aten = torch.ops.aten


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


@pytest.fixture
def as_measured(make_spec):
    """Return a maker of the specs of the H100's records."""

    def make(row):
        return make_spec(
            row["method"],
            model="deit_small_patch16_224",
            image_size=224,
            classes=100,
            batch=128,
            micro_batch=row["micro_batch"],
            device="cuda",
        )

    return make


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['method']} {row['micro_batch'] or ''}")
def test_the_peak_is_within_half_a_percent_of_what_an_h100_allocated(row, as_measured):
    """The formulas have no constant that was fitted to these records."""
    cost = step_cost(as_measured(row), methods.load)

    assert cost.allocated_bytes == pytest.approx(row["peak_allocated_bytes"], rel=0.005)
    now = row["peak_counted_bytes"] - FREED_SINCE.get(row["method"], 0)
    assert cost.peak_bytes == pytest.approx(now, rel=0.01)


def step_of(*operators, held=()):
    """Return lives and timeline of a step.

    Args:
        operators: (bytes of the output, indices of storages that are freed before it).
        held: sizes of the storages that exist before the step.
    """
    lives = [Life(size, at, "", None, True) for at, size in enumerate(held, 1)]
    moment, timeline = len(held), Timeline()
    for number, (size, freed) in enumerate(operators):
        for index in freed:
            moment += 1
            lives[index].ended = moment
        moment += 1
        lives.append(Life(size, moment, "", None, True))
        timeline.moment.append(moment)
        timeline.operator.append(f"aten.made{number}.default")
        timeline.phase.append("forward")
        timeline.module.append("")
        timeline.live_bytes.append(0)
    return lives, timeline


def test_the_parts_add_up_and_blocks_that_are_not_split_are_one_of_them():
    """A request of 10 MiB or more gets a segment of a multiple of 2 MiB."""
    lives, timeline = step_of((12 * MIB + MIB // 2, ()), held=(20 * MIB,))
    found = allocated_prediction(lives, timeline, [NONE], H100)

    # 12.5 MiB come from a segment of 14 MiB, whose rest of 1.5 MiB is split off.
    assert found.parts == {TENSORS: 32 * MIB + MIB // 2, UNUSED: 0}

    lives, timeline = step_of((13 * MIB + MIB // 2, ()), held=(20 * MIB,))
    found = allocated_prediction(lives, timeline, [NONE], H100)

    assert found.parts == {TENSORS: 33 * MIB + MIB // 2, UNUSED: MIB // 2}
    assert found.peak_bytes == sum(found.parts.values()) == 34 * MIB


def test_the_peak_is_where_tensors_and_the_running_operator_s_workspace_need_most():
    """Tensors: 20, 60, 100, 60 MiB; with workspaces 20 + 90 MiB at the first operator."""
    lives, timeline = step_of((40 * MIB, ()), (40 * MIB, ()), (2 * MIB, (1, 2)), held=(20 * MIB,))
    alone = allocated_prediction(lives, timeline, [NONE] * 3, H100)
    taken = [OperatorMemory((50 * MIB,)), NONE, OperatorMemory((60 * MIB,))]
    found = allocated_prediction(lives, timeline, taken, H100)

    assert (alone.peak_bytes, alone.place.operator) == (100 * MIB, "aten.made1.default")
    assert (found.peak_bytes, found.place.operator) == (110 * MIB, "aten.made0.default")
    assert found.parts["workspace of aten.made0"] == 50 * MIB


def test_an_output_that_is_larger_on_cuda_stays_larger():
    lives, timeline = step_of((1000, ()), (2 * KIB, ()), (512, ()))
    taken = [NONE, OperatorMemory(resized=(2 * KIB, 4 * KIB)), NONE]
    found = allocated_prediction(lives, timeline, taken, H100)

    assert found.peak_bytes == KIB + 4 * KIB + 512


def test_logs_of_another_step_are_refused():
    lives, timeline = step_of((1000, ()))

    with pytest.raises(ValueError, match="2 operators were logged and 1 were counted"):
        allocated_prediction(lives, timeline, [NONE] * 2, H100)


@pytest.mark.parametrize(
    ("dtype", "gpu", "expected"),
    [
        # memory-efficient: product of output and gradient, its sum over the width, and a copy
        (torch.float32, H100, (2 * 3 * 197 * 64 * 4, 2 * 3 * 197 * 4, 2 * 3 * 197 * 4)),
        # flash: 197 rows are rounded up to 256, a width of 64 stays
        (torch.bfloat16, H100, (2 * 3 * 256 * 64 * 4, 2 * 3 * 256 * 4)),
        (torch.float16, AMPERE, (2 * 3 * 256 * 64 * 4, 2 * 3 * 256 * 4)),
    ],
)
def test_attention_s_backward_pass_needs_what_its_kernel_needs(dtype, gpu, expected):
    queries = meta(2, 3, 197, 64, dtype=dtype)
    operator = aten._scaled_dot_product_flash_attention_for_cpu_backward.default

    assert operator_memory(operator, (queries,) * 5, None, gpu) == OperatorMemory(expected)


def test_the_memory_efficient_kernel_s_sums_are_rounded_up_to_32_rows():
    queries, sums = meta(2, 3, 197, 64), meta(2, 3, 197)
    operator = aten._scaled_dot_product_flash_attention_for_cpu.default
    half = queries.to(torch.bfloat16)

    assert operator_memory(operator, (queries,) * 3, (queries, sums), H100) == OperatorMemory(
        resized=(2 * 3 * 197 * 4, 2 * 3 * 224 * 4)
    )
    assert operator_memory(operator, (half,) * 3, (half, sums), H100) == NONE


def test_layer_norm_s_backward_pass_has_partial_sums_for_many_rows_only():
    """Groups of 32 rows, but at most 2^15 / (384 / 32) = 2730 of them, for weight and bias."""
    operator = aten.native_layer_norm_backward.default
    many, few = meta(512, 197, 384), meta(128, 197, 384)
    size = 2730 * 384 * 4

    assert operator_memory(operator, (many, many, [384]), None, H100).workspaces == (size, size)
    assert operator_memory(operator, (few, few, [384]), None, H100) == NONE


def test_other_operators_have_no_workspace():
    x = meta(4, 4)

    assert operator_memory(aten.exp.default, (x,), x, H100) == NONE
    assert operator_memory(aten.sum.default, (x,), meta(()), H100) == NONE


def test_cublas_holds_a_workspace_for_each_thread_and_cublaslt_where_a_bias_is_added(monkeypatch):
    for name in ("CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    forward, backward = ("forward", "aten.addmm.default"), ("backward", "aten.mm.default")
    names = ("cuBLAS workspace, main thread", "cuBLAS workspace, autograd's thread")

    assert library_workspaces([], H100) == {}
    assert library_workspaces([("forward", "aten.relu.default")], H100) == {}
    found = library_workspaces([forward, forward, backward], H100)
    assert found == {
        names[0]: 32 * MIB,
        "cuBLASLt workspace, main thread": MIB,
        names[1]: 32 * MIB,
    }
    smaller = library_workspaces([forward, backward], AMPERE)
    assert {smaller[name] for name in names} == {2 * 4 * MIB + 8 * 16 * KIB}


def test_cublas_s_workspaces_can_be_configured(monkeypatch):
    operators = [("forward", "aten.addmm.default")]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8:16:4")
    monkeypatch.setenv("CUBLASLT_WORKSPACE_SIZE", "2048")
    found = library_workspaces(operators, H100)

    assert list(found.values()) == [8 * 4096 * KIB + 4 * 16 * KIB, 2 * MIB]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert list(library_workspaces(operators, H100).values()) == [128 * KIB, 128 * KIB]
    monkeypatch.setenv("TORCH_CUBLASLT_UNIFIED_WORKSPACE", "1")
    assert list(library_workspaces(operators, H100).values()) == [128 * KIB]
