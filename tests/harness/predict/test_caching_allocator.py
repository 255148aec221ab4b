"""The model of torch's caching allocator, against its rules by hand."""

import random
from itertools import pairwise

import pytest

from bsrbench.harness.devices.gpu_properties import H100, GpuProperties
from bsrbench.harness.predict.caching_allocator import CachingAllocator
from bsrbench.harness.predict.reduction_buffers import reduction_buffers

MIB, KIB = 2**20, 2**10


def test_sizes_are_rounded_up_to_512_bytes_and_small_ones_share_segments_of_2_mib():
    allocator = CachingAllocator()
    sizes = [allocator.allocate(size).size for size in (1, 512, 513, MIB)]

    assert sizes == [512, 512, KIB, MIB]
    assert allocator.allocated == 2 * KIB + MIB
    assert allocator.reserved == 2 * MIB


@pytest.mark.parametrize(
    ("request_mib", "segment_mib", "block_mib"),
    [
        (1.5, 20, 1.5),
        (9, 20, 9),
        (10, 10, 10),
        (10.5, 12, 10.5),  # the rest of 1.5 MiB is split off
        (11, 12, 12),  # a rest of 1 MiB is not
        (11.5, 12, 12),
    ],
)
def test_large_segments_are_split_only_if_more_than_1_mib_is_left(
    request_mib, segment_mib, block_mib
):
    allocator = CachingAllocator()
    block = allocator.allocate(int(request_mib * MIB))

    assert allocator.reserved == segment_mib * MIB
    assert block.size == allocator.allocated == block_mib * MIB
    assert block.unused() == (block_mib - request_mib) * MIB


def test_the_smallest_free_block_that_is_large_enough_is_taken():
    """Free: 30 and 20 MiB. 18.5 MiB fit in both; the rest of the smaller one is split off."""
    allocator = CachingAllocator()
    blocks = [allocator.allocate(size * MIB) for size in (30, 20)]
    for block in blocks:
        allocator.free(block)
    block = allocator.allocate(18 * MIB + MIB // 2)

    assert (block.segment, block.size) == (blocks[1].segment, 18 * MIB + MIB // 2)
    assert allocator.reserved == 50 * MIB


def test_free_neighbours_are_joined():
    """Three blocks of 6 MiB share a segment of 20 MiB; freed, they hold one of 18 MiB again."""
    allocator = CachingAllocator()
    blocks = [allocator.allocate(6 * MIB) for _ in range(3)]
    for place in (0, 2, 1):
        allocator.free(blocks[place])
    allocator.allocate(20 * MIB)

    assert allocator.reserved == 20 * MIB


def test_an_emptied_cache_keeps_segments_in_use():
    allocator = CachingAllocator()
    first, second = allocator.allocate(6 * MIB), allocator.allocate(30 * MIB)
    allocator.free(second)
    allocator.empty_cache()

    assert (allocator.allocated, allocator.reserved) == (6 * MIB, 20 * MIB)
    allocator.free(first)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_never_overlap_and_nothing_is_lost(seed):
    """Random requests: the blocks in use are disjoint, and freeing all gives all segments back."""
    draw = random.Random(seed)  # noqa: S311 - made-up requests
    allocator, live = CachingAllocator(), []
    for _ in range(500):
        if live and draw.random() < 0.45:
            allocator.free(live.pop(draw.randrange(len(live))))
        else:
            live.append(allocator.allocate(int(2 ** draw.uniform(0, 26))))
        spans = sorted((b.segment, b.offset, b.offset + b.size) for b in live)
        assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(spans))
        assert allocator.allocated == sum(block.size for block in live) <= allocator.reserved
    for block in live:
        allocator.free(block)
    allocator.empty_cache()

    assert (allocator.allocated, allocator.reserved) == (0, 0)


BIASED = (25216, 384)  # rows and width of DeiT-S at batch 128


def test_the_sum_of_a_bias_s_gradient_needs_twice_its_input():
    """Of a linear layer with 384 outputs over 128 x 197 rows, by ``setReduceConfig`` by hand.

    4 outputs per thread; blocks of 32 x 4 threads; 25216 / 4 = 6304 rows per thread. 16 blocks of
    128 threads fit on each of 132 multiprocessors, 2112 in all; 96 / 32 = 3 blocks lie across, so
    704 could share an output, but each thread needs 16 rows: 6304 / 16 = 394 share one. The buffer
    has 394 x 384 numbers, times the 32 x 4 outputs of a block's row.
    """
    found = reduction_buffers(BIASED, (384, 1), (0,), 4, H100)

    assert found == (394 * 384 * 32 * 4 * 4, 3 * 4)
    assert found[0] == 2 * 25216 * 384 * 4


def test_dimensions_that_lie_side_by_side_are_one():
    """[128, 197, 384] over the first two is the same as [25216, 384] over the first."""
    found = reduction_buffers((128, 197, 384), (197 * 384, 384, 1), (0, 1), 4, H100)

    assert found == reduction_buffers(BIASED, (384, 1), (0,), 4, H100)
    assert found == reduction_buffers((128, 197, 384), (197 * 384, 384, 1), (-3, -2), 4, H100)


def test_a_gpu_with_fewer_multiprocessors_shares_less():
    """72 x (1536 / 128) = 864 blocks, 3 across: 288 share an output."""
    gpu = GpuProperties("NVIDIA A10", (8, 6), 72, 1536)

    assert reduction_buffers(BIASED, (384, 1), (0,), 4, gpu) == (288 * 384 * 128 * 4, 12)


def test_a_sum_of_everything_needs_a_number_per_block():
    """2^20 numbers in rows of 4: 512 threads take 4 each, so 512 values per thread.

    Blocks of 512 threads; 4 fit on each of 132 multiprocessors, 528 in all, but each thread needs
    16 values: 2^20 / 512 / 16 = 128 share the output.
    """
    found = reduction_buffers((MIB,), (1,), (), 4, H100)

    assert found == (128 * 4, 4)


@pytest.mark.parametrize(
    ("sizes", "strides", "dims"),
    [
        ((128, 384), (384, 1), (0,)),  # too few rows
        ((128, 6, 197, 64), (6 * 197 * 64, 197 * 64, 64, 1), (-1,)),  # many short rows
        ((1, 384), (384, 1), (0,)),
        ((0, 384), (384, 1), (0,)),
        ((), (), ()),
    ],
)
def test_other_reductions_need_no_buffer(sizes, strides, dims):
    assert reduction_buffers(sizes, strides, dims, 4, H100) == ()
