"""A random direction of weights, drawn again whenever it is needed."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch
from torch import Tensor

PIECE = 32_000  # elements; torch works on fewer than 32,768 in one thread
SEED_BITS = 32  # torch's generator on the CPU ignores the others


class Direction:
    """A direction with a standard normal part for each element of the parameters.

    torch draws normal numbers in one thread. Here each thread draws for some pieces of the weights,
    and each piece has its own seed, so the direction is the same with any number of threads. A
    piece and its part fit in a core's cache. On other devices than the CPU each parameter is one
    piece. A ``with`` statement keeps the threads from one move to the next.

    Args:
        parameters: of any shape, all on one device.
        seed: the same seed gives the same direction on the same kind of device.
    """

    def __init__(self, parameters: Sequence[Tensor], seed: int) -> None:
        seeds = random.Random(seed)  # noqa: S311 - no secret
        self._parameters = parameters
        self._seeds = [
            [seeds.getrandbits(SEED_BITS) for _ in pieces_of(parameter)] for parameter in parameters
        ]
        self._device = parameters[0].device
        self._workers = torch.get_num_threads() if self._device.type == "cpu" else 1
        self._threads = ThreadPoolExecutor(self._workers)
        # Fake tensors, with which peaks are predicted, have a state that threads would share.
        self._in_threads = self._workers > 1 and type(parameters[0].detach()) is Tensor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def move(self, way: float) -> None:
        """Move all parameters so far along the direction."""
        pieces = [
            (seed, (piece,))
            for seeds, parameter in zip(self._seeds, self._parameters, strict=True)
            for seed, piece in zip(seeds, pieces_of(parameter), strict=True)
        ]
        self._visit(pieces, self._memory(), lambda part, piece: piece.add_(part, alpha=way))

    def move_each(self, way: float, scale: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Move one parameter after the other so far along the direction.

        Args:
            way: how far.
            scale: of shape [].

        Yields:
            The moved parameter, of any shape, and its part of the direction times the scale, of the
            same shape.
        """

        def act(part: Tensor, piece: Tensor, scaled: Tensor) -> None:
            piece.add_(part, alpha=way)
            torch.mul(part, scale, out=scaled)

        memory = self._memory()
        for seeds, parameter in zip(self._seeds, self._parameters, strict=True):
            scaled = torch.empty_like(parameter)
            both = zip(pieces_of(parameter), pieces_of(scaled), strict=True)
            self._visit([*zip(seeds, both, strict=True)], memory, act)
            yield parameter, scaled
            del scaled, both

    def _visit(
        self,
        pieces: Sequence[tuple[int, tuple[Tensor, ...]]],
        memory: Sequence[Tensor],
        act: Callable[..., object],
    ) -> None:
        """Call ``act`` with the part of each piece, and its tensors; all of them have one shape."""

        def visit(some: Iterable[tuple[int, tuple[Tensor, ...]]], free: Tensor) -> None:
            generator = torch.Generator(self._device)
            for seed, tensors in some:
                like = tensors[0]
                part = free.view(like.dtype)[: like.numel()].view(like.shape)
                part.normal_(generator=generator.manual_seed(seed))
                act(part, *tensors)

        if self._in_threads and len(pieces) > 1:
            shares = [pieces[first :: self._workers] for first in range(self._workers)]
            list(self._threads.map(visit, shares, memory))
        else:
            visit(pieces, memory[0])

    def _memory(self) -> list[Tensor]:
        """Return memory in which each thread can draw for any piece, of shape [bytes]."""
        size = max(piece.nbytes for each in self._parameters for piece in pieces_of(each))
        return [
            torch.empty(size, dtype=torch.uint8, device=self._device) for _ in range(self._workers)
        ]


def pieces_of(tensor: Tensor) -> Sequence[Tensor]:
    """Return views of a tensor of any shape, that together are all of it."""
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        return (tensor.detach(),)
    return torch.split(tensor.detach().view(-1), PIECE)
