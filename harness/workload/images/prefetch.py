"""Prepare batches before they are needed: in threads or processes, and copy them to a GPU."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bsrbench.harness.workload.images.batches import Batch, Batches

# Returns a batch on the device, once it is there.
Arrival = Callable[[], Batch]
BATCHES_AHEAD = 2  # more than there are workers, so that none of them has to wait


def in_order(
    batches: Batches, numbers: range, device: torch.device, workers: int
) -> Iterator[Batch]:
    """Yield the batches of some numbers, in their order: images [n, 3, side, side] and labels [n].

    For CUDA, threads prepare batches and copy them to the device while the steps run. For other
    accelerators, threads prepare them. For a CPU, processes do, because threads would take turns
    with the Python code of the steps.

    Args:
        batches: makes a batch.
        numbers: the numbers of the batches.
        device: the device of the steps.
        workers: number of threads or processes; 0 prepares a batch when it is asked for.
    """
    if workers == 0:
        yield from (batches[number] for number in numbers)
    elif device.type == "cpu":
        yield from _by_processes(batches, numbers, workers)
    else:
        send = CudaSender(device) if device.type == "cuda" else _left_here
        yield from by_threads(batches, numbers, workers, send)


def by_threads(
    batches: Batches, numbers: range, threads: int, send: Callable[[Batch], Arrival]
) -> Iterator[Batch]:
    """Yield batches that threads prepare and send.

    Args:
        batches: makes a batch; several threads call it at the same time.
        numbers: the numbers of the batches.
        threads: number of threads.
        send: starts the copy of a batch to the device; called in a thread.
    """
    waiting: deque[Future[Arrival]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
    try:
        for number in numbers:
            waiting.append(pool.submit(lambda n: send(batches[n]), number))
            if len(waiting) == threads + BATCHES_AHEAD:
                yield waiting.popleft().result()()
        while waiting:
            yield waiting.popleft().result()()
    finally:  # also if the training has ended early
        pool.shutdown(wait=True, cancel_futures=True)


def _left_here(batch: Batch) -> Arrival:
    return lambda: batch


class CudaSender:
    """Copies batches to a GPU while it works on a step: from pinned memory, in a second stream.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def __call__(self, batch: Batch) -> Arrival:
        """Start the copy of images [n, 3, side, side] and labels [n]."""
        pinned = [_pinned(part) for part in batch]
        with torch.cuda.stream(self._stream):
            images, labels = (part.to(self._device, non_blocking=True) for part in pinned)
            arrived = self._stream.record_event()

        def arrival() -> Batch:
            # The host waits, and not the step's stream: so the time counts as waiting for data.
            arrived.synchronize()
            for part in (images, labels):
                part.record_stream(torch.cuda.current_stream(self._device))
            return images, labels

        return arrival


def _pinned(part: Tensor) -> Tensor:
    """Return a copy of a tensor of any shape in memory that the GPU can read directly."""
    copy = torch.empty_strided(part.shape, part.stride(), dtype=part.dtype, pin_memory=True)
    np.copyto(copy.numpy(), part.numpy())  # torch would start threads for it; as for ``Preprocess``
    return copy


def _by_processes(batches: Batches, numbers: range, processes: int) -> Iterator[Batch]:
    # The loader has a generator of its own, because it draws a seed. The global generator is
    # reserved for the method.
    loader = DataLoader(
        batches,
        sampler=list(numbers),
        batch_size=None,
        num_workers=processes,
        generator=torch.Generator().manual_seed(0),
    )
    yield from map(tuple, loader)
