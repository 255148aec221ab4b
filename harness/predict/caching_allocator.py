"""A model of torch's CUDA caching allocator: which blocks it gives for a sequence of requests.

Source: ``c10/cuda/CUDACachingAllocator.cpp`` and ``c10/core/AllocatorConfig.h`` of torch 2.9 to
2.14 (``round_size``, ``get_allocation_size``, ``should_split``, ``release_cached_blocks``), with
the default settings of ``PYTORCH_CUDA_ALLOC_CONF`` and one stream.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

MIB = 1 << 20
BLOCK_BYTES = 512  # kMinBlockSize
SMALL_BYTES = MIB  # kSmallSize: larger requests come from the pool of large blocks
SMALL_SEGMENT_BYTES = 2 * MIB  # kSmallBuffer
LARGE_SEGMENT_BYTES = 20 * MIB  # kLargeBuffer, for requests below LARGE_BYTES
LARGE_BYTES = 10 * MIB  # kMinLargeAlloc
SEGMENT_GRAIN_BYTES = 2 * MIB  # kRoundLarge: larger requests get a segment of their own


@dataclass(frozen=True, order=True)
class Block:
    """A part of a segment. Blocks are ordered by size and then by address, as in the allocator.

    Attributes:
        size: its bytes. The allocator's statistics count all of them as allocated.
        segment: the number of the segment; later segments have larger numbers.
        offset: the first byte in the segment.
        large: whether it belongs to the pool of large blocks.
        requested: the requested bytes, rounded up to ``BLOCK_BYTES``; 0 if the block is free.
    """

    size: int
    segment: int
    offset: int
    large: bool
    requested: int = 0

    def unused(self) -> int:
        """Return the bytes that were not requested, but are too few to be split off."""
        return self.size - self.requested


class CachingAllocator:
    """Gives blocks and takes them back.

    Attributes:
        allocated: bytes of the blocks in use.
        reserved: bytes of all segments.
    """

    def __init__(self) -> None:
        self.allocated = self.reserved = 0
        self._segments: list[int] = []
        self._free: dict[bool, list[Block]] = {False: [], True: []}

    def allocate(self, size: int) -> Block:
        """Return the smallest free block that is large enough, or one from a new segment."""
        requested = rounded(size)
        large = requested > SMALL_BYTES
        pool = self._free[large]
        place = bisect_left(pool, Block(requested, -1, 0, large))
        found = pool.pop(place) if place < len(pool) else self._new_segment(requested, large)
        rest = found.size - requested
        if rest > SMALL_BYTES if large else rest >= BLOCK_BYTES:  # should_split
            insort(pool, Block(rest, found.segment, found.offset + requested, large))
            found = Block(requested, found.segment, found.offset, large)
        self.allocated += found.size
        return Block(found.size, found.segment, found.offset, large, requested)

    def free(self, block: Block) -> None:
        """Take a block back, and join it with the free blocks next to it."""
        self.allocated -= block.size
        pool, start, end = self._free[block.large], block.offset, block.offset + block.size
        beside = [
            free
            for free in pool
            if free.segment == block.segment
            and (free.offset + free.size == start or free.offset == end)
        ]
        for free in beside:
            pool.remove(free)
            start, end = min(start, free.offset), max(end, free.offset + free.size)
        insort(pool, Block(end - start, block.segment, start, block.large))

    def empty_cache(self) -> None:
        """Give the segments in which no block is used back to the device."""
        for pool in self._free.values():
            for free in [free for free in pool if free.size == self._segments[free.segment]]:
                pool.remove(free)
                self.reserved -= free.size

    def _new_segment(self, requested: int, large: bool) -> Block:
        size = segment_bytes(requested)
        self._segments.append(size)
        self.reserved += size
        return Block(size, len(self._segments) - 1, 0, large)


def rounded(size: int) -> int:
    """Return the bytes that are requested for a tensor or a workspace of some bytes."""
    return max(BLOCK_BYTES, -(-size // BLOCK_BYTES) * BLOCK_BYTES)


def segment_bytes(requested: int) -> int:
    """Return the size of a new segment for a request."""
    if requested <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if requested < LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-requested // SEGMENT_GRAIN_BYTES) * SEGMENT_GRAIN_BYTES
