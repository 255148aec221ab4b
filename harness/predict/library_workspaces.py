"""The workspaces that cuBLAS and cuBLASLt hold from their first product on, by torch's source.

Source: ``aten/src/ATen/cuda/CublasHandlePool.cpp`` (``setWorkspaceForHandle``,
``parseChosenWorkspaceSize``, ``getCUDABlasLtWorkspace``), read in a copy whose version of torch is
not known. The records of an H100 with torch 2.11 agree with it. torch allocates one workspace for
each handle and stream. Every thread has its own handle: the main thread runs the forward pass, and
autograd's thread runs the backward pass and what it recomputes.
"""

import os
import re
from collections.abc import Iterable

from bsrbench.harness.devices.gpu_properties import GpuProperties

MIB = 1 << 20
HOPPER = (9, 0)
HOPPER_BYTES = 32 * MIB
USUAL_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024  # :4096:2:16:8
LIGHT_BYTES = 1024 * 1024  # of cuBLASLt
CONFIG, LIGHT_CONFIG = "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"  # the latter in KiB
UNIFIED = "TORCH_CUBLASLT_UNIFIED_WORKSPACE"
PRODUCTS = frozenset(f"aten.{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv"))
WITH_BIAS = "aten.addmm"  # cuBLASLt adds the bias in the same kernel
BACKWARD = "backward"


def library_workspaces(operators: Iterable[tuple[str, str]], gpu: GpuProperties) -> dict[str, int]:
    """Return name -> bytes of each workspace that the libraries hold after a step.

    Args:
        operators: (phase, name) of each operator of the step, such as
            ``("backward", "aten.mm.default")``.
        gpu: where the step runs.
    """
    workspaces = {}
    for phase, name in operators:
        operator = name.rpartition(".")[0]
        thread = "autograd's thread" if phase == BACKWARD else "main thread"
        if operator in PRODUCTS:
            workspaces[f"cuBLAS workspace, {thread}"] = cublas_bytes(gpu)
        if operator == WITH_BIAS and os.environ.get(UNIFIED) != "1":
            workspaces[f"cuBLASLt workspace, {thread}"] = cublaslt_bytes(gpu)
    return workspaces


def cublas_bytes(gpu: GpuProperties) -> int:
    """Return the size of one cuBLAS workspace."""
    pairs = re.findall(r":([0-9]+):([0-9]+)", os.environ.get(CONFIG, ""))
    if pairs:
        return sum(int(size) * 1024 * int(count) for size, count in pairs)
    return HOPPER_BYTES if gpu.capability == HOPPER else USUAL_BYTES


def cublaslt_bytes(gpu: GpuProperties) -> int:
    """Return the size of one cuBLASLt workspace; it is not larger than cuBLAS's."""
    size = os.environ.get(LIGHT_CONFIG, "")
    chosen = int(size) * 1024 if size.isdecimal() else LIGHT_BYTES
    return min(chosen, cublas_bytes(gpu))
