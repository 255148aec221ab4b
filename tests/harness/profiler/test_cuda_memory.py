"""The peak of a GPU's allocator, explained from histories that are replayed."""

from types import SimpleNamespace

import pytest
import torch

from bsrbench.harness.meters.allocator_events import (
    AllocatorEvent,
    RunOperator,
    events_of,
    told_apart,
    workspaces,
)
from bsrbench.harness.profiler.cuda_memory import (
    NO_HISTORY,
    CudaPeak,
    explained_peak,
    only_statistics,
)

MIB, BLOCK = 2**20, 512
GPU = torch.device("cuda", 0)
PRODUCT = RunOperator("aten.mm.default", {0x1000: 13 * MIB + MIB // 2})
SUM = RunOperator("aten.sum.dim_IntList", {0x9000: 1536})
# A product whose block has 512 KiB more than its tensor, then a sum with a buffer and semaphores.
HISTORY = [
    AllocatorEvent(1, 0x1000, 14 * MIB, 0),
    AllocatorEvent(2, 0x9000, 1536, 1),
    AllocatorEvent(3, 0xA000, 20 * MIB, 1),
    AllocatorEvent(4, 0xB000, BLOCK, 1),
    AllocatorEvent(5, 0xB000, -BLOCK, 1),
    AllocatorEvent(6, 0xA000, -20 * MIB, 1),
    AllocatorEvent(7, 0x1000, -14 * MIB, None),
]
# 100 MiB of tensors in blocks and 64 MiB of cuBLAS before the step, and 1 MiB of unused rests.
PEAK = CudaPeak(
    allocated=165 * MIB + 14 * MIB + 1536 + 20 * MIB + BLOCK,
    before=165 * MIB,
    tensors_before=100 * MIB,
    counted=100 * MIB + 13 * MIB + MIB // 2 + 1536,
    libraries=64 * MIB,
)


def test_a_history_tells_outputs_from_workspaces_and_from_unused_rests_of_blocks():
    found = told_apart(HISTORY, [PRODUCT, SUM], BLOCK)

    assert found.rise == 14 * MIB + 1536 + 20 * MIB + BLOCK
    assert found.at_peak == 20 * MIB + BLOCK
    assert found.unused_at_peak == MIB // 2
    assert found.hidden_at_peak == 0
    assert (found.operator_at_peak, found.name_at_peak) == (1, "aten.sum.dim_IntList")
    assert found.largest == {"aten.sum.dim_IntList": 20 * MIB + BLOCK}


def test_tensors_workspaces_and_unused_rests_are_all_that_is_allocated():
    reading = explained_peak(PEAK, told_apart(HISTORY, [PRODUCT, SUM], BLOCK), 113 * MIB)
    found = reading.detail.allocated

    assert reading.notes == ()
    assert reading.measurements == {"workspace_bytes": 84 * MIB + BLOCK}
    assert found.library_workspace_bytes == 64 * MIB
    assert found.unused_in_blocks_bytes == MIB + MIB // 2
    assert found.unexplained_bytes == 0
    assert found.largest_workspaces == {"aten.sum.dim_IntList": 20 * MIB + BLOCK}
    assert found.rest_bytes == PEAK.allocated - 113 * MIB


def test_what_neither_tensors_nor_workspaces_explain_is_flagged():
    """4 MiB of 200 are 2 %."""
    peak = CudaPeak(**vars(PEAK) | {"allocated": PEAK.allocated + 4 * MIB})
    reading = explained_peak(peak, told_apart(HISTORY, [PRODUCT, SUM], BLOCK), 113 * MIB)

    assert reading.detail.allocated.unexplained_bytes == 4 * MIB
    assert [note.text for note in reading.notes] == [
        f"unexplained: {4 * MIB} bytes of the allocated peak are neither tensors nor workspaces"
    ]


def test_memory_held_before_the_step_that_nobody_knows_is_flagged():
    peak = CudaPeak(**vars(PEAK) | {"tensors_before": 90 * MIB, "counted": PEAK.counted - 10 * MIB})
    reading = explained_peak(peak, told_apart(HISTORY, [PRODUCT, SUM], BLOCK), 113 * MIB)

    assert reading.detail.allocated.unexplained_bytes == 0
    assert [note.text for note in reading.notes] == [
        (
            f"{11 * MIB} bytes were allocated before the step that are neither known tensors nor "
            "workspaces of cuBLAS"
        )
    ]


def test_without_a_way_to_free_cublas_s_workspaces_all_that_is_held_counts_as_such():
    peak = CudaPeak(**vars(PEAK) | {"libraries": None})
    reading = explained_peak(peak, told_apart(HISTORY, [PRODUCT, SUM], BLOCK), 113 * MIB)

    assert reading.measurements == {"workspace_bytes": 85 * MIB + BLOCK}
    assert reading.detail.allocated.library_workspace_bytes is None
    assert reading.detail.allocated.unexplained_bytes == 0


def test_a_block_whose_free_is_missing_outlives_its_operator():
    """The semaphores stay; so they are no workspace, and the note of the rest would name them."""
    history = [event for event in HISTORY if event.time != 5]
    found = told_apart(history, [PRODUCT, SUM], BLOCK)

    assert found.at_peak == 20 * MIB
    assert found.hidden_at_peak == BLOCK


def test_frees_of_blocks_that_nobody_saw_allocated_lower_the_level_and_are_no_workspaces():
    early = [AllocatorEvent(0, 0xC000, -30 * MIB, 0), *HISTORY]
    found = told_apart(early, [PRODUCT, SUM], BLOCK)

    assert found.rise == 4 * MIB + 1536 + BLOCK
    assert found.at_peak == 20 * MIB + BLOCK


def node(name, time, children=(), **fields):
    return SimpleNamespace(
        name=name,
        start_time_ns=time,
        children=list(children),
        extra_fields=SimpleNamespace(**fields),
    )


def memory(time, size, device, address=0x1000):
    return node("[memory]", time, ptr=address, alloc_size=size, device=torch.device(device))


def test_only_the_events_of_the_step_s_device_count():
    """The host, a second GPU, and two operators, one inside autograd's thread."""
    tree = [
        node("bsrbench operator 0", 1, [node("aten::mm", 2, [memory(3, 64, "cuda:0")])]),
        memory(4, 1000, "cpu"),
        memory(5, 2000, "cuda:1"),
        node("autograd::engine", 6, [node("bsrbench operator 1", 7, [memory(8, 32, "cuda:0")])]),
        memory(9, -64, "cuda:0"),
    ]

    assert list(events_of(tree, GPU)) == [
        AllocatorEvent(3, 0x1000, 64, 0),
        AllocatorEvent(8, 0x1000, 32, 1),
        AllocatorEvent(9, 0x1000, -64, None),
    ]
    assert [event.size for event in events_of(tree, torch.device("cpu"))] == [1000]


def test_the_events_of_this_machine_s_allocator_go_through_the_same_code():
    """Three outputs of 1000 bytes in blocks of 512: as on a GPU, but the CPU rounds nothing up."""
    x = torch.ones(250)
    found = workspaces(lambda: [x.exp() for _ in range(3)], grain=BLOCK)

    assert (found.rise, found.at_peak, found.unused_at_peak) == (3000, 0, 0)


@pytest.mark.parametrize(("allocated", "flagged"), [(202 * MIB, False), (203 * MIB, True)])
def test_without_a_history_the_statistics_are_compared_and_the_reason_is_given(allocated, flagged):
    """1 % of the peak may be no tensors; 3 of 203 MiB are more."""
    peaks = {"peak_allocated_bytes": allocated, "peak_reserved_bytes": 300 * MIB}
    readings = only_statistics(peaks, 200 * MIB, NO_HISTORY)

    assert readings[0].measurements == peaks
    assert readings[1].missing["workspace_bytes"].text == NO_HISTORY
    assert readings[2].detail.allocated.rest_bytes == allocated - 200 * MIB
    assert bool(readings[2].notes) == flagged


def test_an_allocator_without_statistics_gives_the_reason_alone():
    assert [reading.measurements for reading in only_statistics({}, 0, NO_HISTORY)] == [{}, {}]
