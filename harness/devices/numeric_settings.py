"""Read the settings of torch and timm that select kernels and precision in this process."""

from collections.abc import Callable
from typing import Any

import timm.layers
import torch

from bsrbench.harness.records.environment_variables import that_decide
from bsrbench.harness.torch_internals.eager_internals import (
    nnpack_is_enabled,
    order_of_attention_kernels,
)

Asked = dict[str, Callable[[], object]]
SMALLEST = 2.0**-1074  # the smallest double; a processor that flushes denormals makes it 0


def _fused_attention() -> int:
    """Return timm's level: 0 never, 1 where it is tested, 2 also where it is experimental."""
    return int(timm.layers.use_fused_attn()) + int(timm.layers.use_fused_attn(experimental=True))


def _flushes_denormals() -> bool:
    return (torch.tensor(SMALLEST, dtype=torch.float64) * 1).item() == 0


_backends: Any = torch.backends  # torch's type stubs lack many of these attributes
EVERYWHERE: Asked = {
    "TIMM_FUSED_ATTN": _fused_attention,
    "TIMM_REENTRANT_CKPT": timm.layers.use_reentrant_ckpt,
    "timm.layers.is_exportable": timm.layers.is_exportable,
    "timm.layers.is_scriptable": timm.layers.is_scriptable,
    "timm.layers.is_no_jit": timm.layers.is_no_jit,
    "torch.default_dtype": torch.get_default_dtype,
    "torch.deterministic_debug_mode": torch.get_deterministic_debug_mode,
    "torch.flush_denormal": _flushes_denormals,
    "torch.backends.fp32_precision": lambda: _backends.fp32_precision,
    "torch.backends.mkldnn.enabled": lambda: _backends.mkldnn.enabled,
    "torch.backends.mkldnn.deterministic": lambda: _backends.mkldnn.deterministic,
    "torch.backends.mkldnn.matmul.fp32_precision": lambda: _backends.mkldnn.matmul.fp32_precision,
    "torch.backends.mkldnn.conv.fp32_precision": lambda: _backends.mkldnn.conv.fp32_precision,
    "torch.backends.nnpack.enabled": nnpack_is_enabled,
    "torch.backends.mha.fastpath": _backends.mha.get_fastpath_enabled,
    "torch.backends.opt_einsum.enabled": lambda: _backends.opt_einsum.enabled,
    "torch.backends.opt_einsum.strategy": lambda: _backends.opt_einsum.strategy,
    # These two also control the fused attention of CPUs.
    "torch.backends.cuda.flash_sdp": _backends.cuda.flash_sdp_enabled,
    "torch.backends.cuda.math_sdp": _backends.cuda.math_sdp_enabled,
}
ON_GPUS: Asked = {
    "torch.backends.cuda.mem_efficient_sdp": _backends.cuda.mem_efficient_sdp_enabled,
    "torch.backends.cuda.cudnn_sdp": _backends.cuda.cudnn_sdp_enabled,
    "torch.backends.cuda.sdp_priority": order_of_attention_kernels,
    "torch.backends.cuda.math_sdp_reduces_in_half": (
        _backends.cuda.fp16_bf16_reduction_math_sdp_allowed
    ),
    "torch.backends.cuda.preferred_blas": lambda: _backends.cuda.preferred_blas_library().name,
    "torch.backends.cuda.preferred_linalg": lambda: _backends.cuda.preferred_linalg_library().name,
    "torch.backends.cuda.matmul.fp32_precision": lambda: _backends.cuda.matmul.fp32_precision,
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction": (
        lambda: _backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    ),
    "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction": (
        lambda: _backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    ),
    "torch.backends.cuda.matmul.allow_fp16_accumulation": (
        lambda: _backends.cuda.matmul.allow_fp16_accumulation
    ),
    "torch.backends.cudnn.enabled": lambda: _backends.cudnn.enabled,
    "torch.backends.cudnn.benchmark": lambda: _backends.cudnn.benchmark,
    "torch.backends.cudnn.benchmark_limit": lambda: _backends.cudnn.benchmark_limit,
    "torch.backends.cudnn.deterministic": lambda: _backends.cudnn.deterministic,
    "torch.backends.cudnn.conv.fp32_precision": lambda: _backends.cudnn.conv.fp32_precision,
}


def settings(device: str) -> dict[str, str]:
    """Return every setting that affects which kernels run on a device, their results or memory.

    Settings of libraries are read from the libraries, whoever set them. The environment variables
    are those that are set and that no library reports. The processor also affects kernels; it is
    part of the machine's description.

    Args:
        device: name of the device in a workload.
    """
    return decided(device) | that_decide(_type_of(device))


def decided(device: str) -> dict[str, str]:
    """Return the settings that are read from libraries."""
    readers = EVERYWHERE if _type_of(device) == "cpu" else EVERYWHERE | ON_GPUS
    return {name: _plain(read()) for name, read in readers.items()}


def _type_of(device: str) -> str:
    return device.partition(":")[0]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value).removeprefix("torch.")
