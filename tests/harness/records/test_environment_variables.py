"""Which variables decide numbers, which disturb times, and what of their values is kept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm.layers.config

from bsrbench.harness.devices.numeric_settings import EVERYWHERE
from bsrbench.harness.records.environment_variables import that_decide, that_disturb_times

DECIDE_ON_A_CPU = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "MKL_ENABLE_INSTRUCTIONS", "TORCH_MKLDNN_MATMUL_MIN_DIM"),
    *("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "KMP_DETERMINISTIC_REDUCTION", "TIMM_FOREACH_CHUNK_SIZE"),
    *("TORCHINDUCTOR_FREEZING", "TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"),
    *("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD", "BSRBENCH_KERNELS"),
)
DECIDE_ON_A_GPU = (
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"),
    *("PYTORCH_ALLOC_CONF", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT"),
    *("PYTORCH_NO_CUDA_MEMORY_CACHING", "CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT"),
    *("TORCH_CUDNN_V8_API_DISABLED", "CUDA_MODULE_LOADING"),
)
DISTURB = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"),
    *("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"),
    *("CUDA_LAUNCH_BLOCKING", "BSRBENCH_WORKERS"),
)
NEITHER = (
    *("PATH", "HOME", "TORCH_HOME", "TORCH_LOGS", "TORCHINDUCTOR_CACHE_DIR", "ONEDNN_VERBOSE"),
    *("MKL_VERBOSE", "TORCH_SHOW_CPP_STACKTRACES", "BSRBENCH_DATA", "BSRBENCH_CACHE", "CUDA_HOME"),
    *("CUDA_VISIBLE_DEVICES", "TORCH_NCCL_BLOCKING_WAIT", "RAY_ADDRESS"),
)


@pytest.mark.parametrize(
    ("names", "on_a_cpu", "on_a_gpu", "disturb"),
    [
        (DECIDE_ON_A_CPU, True, True, False),
        (DECIDE_ON_A_GPU, False, True, False),
        (DISTURB, False, False, True),
        (NEITHER, False, False, False),
    ],
    ids=["everywhere", "on a GPU", "disturb times", "neither"],
)
def test_each_variable_is_of_its_kind(names, on_a_cpu, on_a_gpu, disturb):
    given = dict.fromkeys(names, "1")

    assert that_decide("cpu", given) == (given if on_a_cpu else {})
    assert that_decide("cuda", given) == (given if on_a_gpu else {})
    assert that_disturb_times(given) == (given if disturb else {})


def test_what_a_library_sets_as_it_is_loaded_decides_nothing():
    """Whether scikit-learn was loaded on the way must not part two equal processes."""
    program = (
        "from bsrbench.harness.records.environment_variables import that_decide as found\n"
        "before = found('cpu'), found('cuda')\n"
        "import joblib, peft, ray, sklearn.datasets, timm, torch, torch._inductor.compile_fx\n"
        "print((found('cpu'), found('cuda')) == before)"
    )
    environment = {name: v for name, v in os.environ.items() if not name.startswith("KMP_")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )

    assert done.stdout.split() == ["True"]


def test_an_empty_variable_is_not_set():
    assert that_decide("cpu", {"MKL_CBWR": ""}) == {}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/opt/lib/libjemalloc.so.2:/home/me/hook.so", "libjemalloc.so.2:hook.so"),
        (":4096:8", ":4096:8"),
        ("max_split_size_mb:128,expandable_segments:True", None),
        ("file=/var/log/x", "file=x"),
    ],
)
def test_no_folder_of_this_machine_is_kept(value, kept):
    assert that_decide("cpu", {"LD_PRELOAD": value}) == {"LD_PRELOAD": kept or value}


def test_every_variable_that_timms_layers_read_is_asked_of_timm():
    text = Path(timm.layers.config.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r"os\.environ\[?'?\(?'([A-Z_]+)'", text))

    assert names
    assert names <= EVERYWHERE.keys()


@pytest.mark.parametrize("value", ["yes", "", "1.0"])
def test_a_variable_that_timm_cannot_read_is_bad_input(value, typed, monkeypatch):
    monkeypatch.setenv("TIMM_FUSED_ATTN", value)
    code, said = typed("list", "methods")

    assert code == 2
    assert said.startswith(f"error: TIMM_FUSED_ATTN={value!r} is not valid: timm expects 0")
    assert len(said.splitlines()) == 1


def test_a_variable_that_timm_can_read_is_none(typed, monkeypatch):
    for value in ("0", "2"):
        monkeypatch.setenv("TIMM_FUSED_ATTN", value)

        assert typed("list", "methods")[0] == 0
