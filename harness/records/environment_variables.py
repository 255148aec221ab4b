"""The environment variables that affect numbers, and those that affect only times."""

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from bsrbench.harness.errors import BadInput

# Checked first. Libraries read these variables, but they affect only the places of files, the
# printed output, or the communication between machines.
DECIDE_NOTHING = (
    *("TORCH_HOME", "TORCH_HUB*", "TORCH_MODEL_ZOO", "TORCH_EXTENSIONS_DIR", "TORCH_TRACE"),
    *("TORCH_LOGS*", "TORCH_CPP_LOG_LEVEL", "TORCH_SHOW_*", "TORCH_*ADDR2LINE*"),
    *("TORCH_SYMBOLIZE_MODE", "TORCH_SERIALIZATION_DEBUG", "TORCH_FORCE_*WEIGHTS_ONLY_LOAD"),
    *("TORCH_NCCL_*", "TORCH_GLOO_*", "TORCH_DIST*", "TORCH_ELASTIC_*", "TORCH_FR_*"),
    *("TORCH_COMPILE_DEBUG*", "TORCH_DEVICE_BACKEND_AUTOLOAD", "TORCH_DONT_CHECK_*"),
    *("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_WORKER_*", "TORCHINDUCTOR_*LOG*"),
    *("TORCHINDUCTOR_PROFILE*", "TORCHINDUCTOR_FX_GRAPH_*CACHE*", "TORCHINDUCTOR_*REMOTE_CACHE*"),
    *("TORCHINDUCTOR_REDIS_*", "TORCHINDUCTOR_WRITE_*", "TORCHINDUCTOR_*DUMP*"),
    *("TORCHINDUCTOR_UNIQUE_*", "TORCHINDUCTOR_ENABLED_METRIC_TABLES"),
    *("TORCHDYNAMO_VERBOSE", "TORCHDYNAMO_EXTENDED_*", "TORCHDYNAMO_PRINT_*"),
    *("PYTORCH_API_USAGE_*", "PYTORCH_KERNEL_CACHE_PATH", "PYTORCH_JIT_LOG_LEVEL"),
    *("PYTORCH_TEST*", "PYTORCH_VERSION*", "PYTORCH_NVML_BASED_CUDA_CHECK"),
    *("TIMM_DATASET_MAX_RETRIES", "TIMM_USE_OLD_CACHE"),
    *("*_VERBOSE", "*_VERBOSE_OUTPUT_FILE", "MKL_SERVICE_FORCE_INTEL", "MKLROOT"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "CUDA_VERSION"),
    *("CUDA_CACHE_*", "CUDA_*_PATH", "CUDA_PROFILE", "CUDNN_HOME", "CUDNN_*PATH", "CUDNN_*LOG*"),
    *("CUDNN_VERSION", "CUBLAS_LOG*", "CUBLASLT_LOG*", "TRITON_CACHE_DIR", "TRITON_*_PATH"),
    # scikit-learn and joblib set it at import; some data or a method may import them.
    "KMP_INIT_AT_FORK",
    # timm reads these once, at import; ``devices.numeric_settings`` reads the result from timm.
    *("TIMM_FUSED_ATTN", "TIMM_REENTRANT_CKPT"),
)
DISTURB_TIMES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "OMP_STACKSIZE"),
    *("OMP_CANCELLATION", "OMP_MAX_TASK_PRIORITY", "OMP_DISPLAY_*", "GOMP_*"),
    *("KMP_AFFINITY", "KMP_BLOCKTIME", "KMP_LIBRARY", "KMP_HW_SUBSET", "KMP_SETTINGS"),
    *("KMP_TOPOLOGY_METHOD", "KMP_STACKSIZE", "KMP_DUPLICATE_LIB_OK", "KMP_WARNINGS"),
    # torch sets its own number of threads, and those of OpenMP and MKL, to the workload's.
    *("MKL_NUM_THREADS", "MKL_DYNAMIC", "OPENBLAS_NUM_THREADS", "OPENBLAS_MAIN_FREE"),
    *("NUMEXPR_*", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_DEVICE_DEFAULT_*"),
    *("TORCHINDUCTOR_COMPILE_THREADS", "TORCHINDUCTOR_QUIESCE_*", "TORCH_WARM_POOL"),
    *("BSRBENCH_WORKERS", "BSRBENCH_SCHEDULING"),
)
# Variables that affect only GPUs; trials on a CPU ignore them.
DECIDE_ON_GPUS = (
    *("PYTORCH_CUDA_*", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_*", "PYTORCH_NO_CUDA_*"),
    *("PYTORCH_TUNABLEOP_*", "PYTORCH_MIOPEN_*", "PYTORCH_MPS_*", "PYTORCH_ROCM_*"),
    *("TORCH_CUDNN_*", "TORCH_CUDA_*", "TORCH_CUBLASLT_*", "TORCH_BLAS_*", "TORCH_LINALG_*"),
    *("TORCH_ALLOW_TF32_*", "TORCH_ROCM_*", "TORCH_XPU_*"),
    *("NVIDIA_TF32_OVERRIDE", "CUDA_*", "CUBLAS_*", "CUBLASLT_*", "CUDNN_*", "TRITON_*"),
    *("CUTLASS_*", "CUTEDSL_*", "QUACK_*", "HIP_*", "HSA_*", "ROCBLAS_*", "MIOPEN_*", "SYCL_*"),
)
DECIDE = (
    *("ATEN_*", "ONEDNN_*", "DNNL_*", "MKL_*", "MKLDNN_*", "FBGEMM_*", "LRU_CACHE_CAPACITY"),
    *("OPENBLAS_*", "BLIS_*", "USE_EIGEN_FOR_BLAS", "NPY_*"),
    *("TORCH_*", "TORCHINDUCTOR_*", "TORCHDYNAMO_*", "PYTORCH_*", "INDUCTOR_*", "AOT*"),
    *("TIMM_*", "BSRBENCH_KERNELS", "CXX", "FORK_LAST3"),
    # The number of threads affects the rounding of sums: OMP_DYNAMIC, OMP_THREAD_LIMIT.
    *("OMP_*", "KMP_*"),
    # These affect memory outside tensors, or load other code into the process.
    *("MALLOC_*", "GLIBC_TUNABLES", "PYTHONMALLOC", "LD_PRELOAD"),
)
FUSED = "TIMM_FUSED_ATTN"
FOLDERS = re.compile(r"[^\s:;,=]*/")


def that_decide(device: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that are set and affect which kernels run or how much memory they take.

    Args:
        device: device type, as torch names it.
        environment: variable -> value; by default those of this process.
    """
    patterns = DECIDE if device == "cpu" else (*DECIDE_ON_GPUS, *DECIDE)
    left_out = (*DECIDE_NOTHING, *DISTURB_TIMES)
    others = DECIDE_ON_GPUS if device == "cpu" else ()
    return {
        name: without_folders(value)
        for name, value in sorted(environment.items())
        if value and _fits(name, patterns) and not _fits(name, (*left_out, *others))
    }


def that_disturb_times(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that are set and affect only times."""
    return {
        name: without_folders(value)
        for name, value in sorted(environment.items())
        if value and _fits(name, DISTURB_TIMES)
    }


def require_readable(environment: Mapping[str, str] = os.environ) -> None:
    """Check ``TIMM_FUSED_ATTN``: with an invalid value, the import of timm ends with a traceback.

    Raises:
        BadInput: it is not a whole number.
    """
    value = environment.get(FUSED, "1")
    try:
        int(value)
    except ValueError as error:
        raise BadInput(
            f"{FUSED}={value!r} is not valid: timm expects 0 (no fused attention), 1 (where it is "
            "tested) or 2 (also where it is experimental); set one of these, or unset the variable"
        ) from error


def without_folders(value: str) -> str:
    """Return a value for a record; each path in it is reduced to its last name."""
    return FOLDERS.sub("", value)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
