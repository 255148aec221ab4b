"""A block from before a profile that is freed in it counts once, with its own size."""

import pytest
import torch

from bsrbench.harness.devices.freed_marks import Frees
from bsrbench.harness.meters.allocator_events import (
    AllocatorEvent,
    allocator_rise,
    without_double_frees,
)

MIB, PAGE = 2**20, 4096


def event(time, address, size, *, announced=False):
    return AllocatorEvent(time, address, size, None, announced)


MARK, FREE = event(1, 7, -100, announced=True), event(2, 7, -400)
AGAIN, END = event(3, 7, 50), event(4, 7, -50)  # another block at the same address


@pytest.mark.parametrize(("old", "counts"), [(True, MARK), (False, FREE)])
def test_a_mark_or_an_event_counts(old, counts):
    kept = without_double_frees([MARK, FREE, AGAIN, END], sizes_may_be_old=old)

    assert kept == [counts, AGAIN, END]


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("only", [MARK, FREE])
def test_what_is_there_once_is_left_alone(old, only):
    events = [only, AGAIN, END]

    assert without_double_frees(events, sizes_may_be_old=old) == events


def test_the_size_of_an_earlier_block_at_the_same_address_is_not_used():
    """The earlier block is taken in a profile and freed outside; a smaller one takes its place.

    From the heap the first of the two gets the earlier address. Where each block is mapped by
    itself (a test before this one may have fixed the threshold), the kernel fills the gap from its
    end: the second gets it, as the two fill the gap to the page, C library's page included. Blocks
    that went elsewhere are kept, so that other gaps fill up.
    """
    sizes = (5 * MIB + PAGE, 3 * MIB - 2 * PAGE)
    tested, elsewhere = 0, []
    for _ in range(100):
        held = []
        allocator_rise(lambda held=held: held.append(torch.empty(8 * MIB, dtype=torch.uint8)))
        earlier = held.pop().data_ptr()
        held = [torch.empty(size, dtype=torch.uint8) for size in sizes]
        if earlier not in [tensor.data_ptr() for tensor in held]:
            elsewhere.extend(held)
            continue
        marks = Frees([tensor.untyped_storage() for tensor in held])

        def replace(held=held):
            held.clear()
            return [torch.empty(6 * MIB, dtype=torch.uint8) for _ in range(2)]

        assert allocator_rise(replace, marks) == 12 * MIB - sum(sizes)
        tested += 1
    assert tested, "no block took the place of an earlier one, so nothing was tested"
