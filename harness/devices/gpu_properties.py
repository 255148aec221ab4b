"""The properties of an NVIDIA GPU that decide how much memory torch's kernels use."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GpuProperties:
    """One model of GPU.

    Attributes:
        name: the name that the driver reports.
        capability: the compute capability: major and minor number.
        multiprocessors: number of streaming multiprocessors.
        threads_per_multiprocessor: the largest number of threads resident on each of them.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int


# Assumed where there is no GPU. The numbers are those of NVIDIA's data sheet of the SXM5 model.
H100 = GpuProperties("NVIDIA H100 80GB HBM3", (9, 0), 132, 2048)


def gpu_properties(device: torch.device) -> GpuProperties | None:
    """Return the properties of a CUDA device; ``None`` if torch does not see it here."""
    if (
        device.type != "cuda"
        or not torch.cuda.is_available()
        or (device.index or 0) >= torch.cuda.device_count()
    ):
        return None
    properties = torch.cuda.get_device_properties(device)
    return GpuProperties(
        properties.name,
        (properties.major, properties.minor),
        properties.multi_processor_count,
        properties.max_threads_per_multi_processor,
    )
