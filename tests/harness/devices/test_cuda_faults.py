"""Why a GPU cannot be used; the texts are those of torch, CUDA and cuBLAS."""

import pytest
import torch

from bsrbench.harness.devices import cuda_faults, open_device
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.trial_passes import failure

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org/ to "
    "install a PyTorch version that has been compiled with your version of the CUDA driver."
)
NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed "
    "a driver from http://www.nvidia.com/Download/index.aspx"
)
TRAIL = (
    "\nSearch for `cudaErrorDevicesUnavailable' in "
    "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more "
    "information.\nCUDA kernel errors might be asynchronously reported at some other API call, so "
    "the stacktrace below might be incorrect.\nFor debugging consider passing "
    "CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
FULL = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 12.81 MiB is free. Process 41 has 70.50 GiB memory in use. Including non-PyTorch "
    "memory, this process has 8.58 GiB memory in use. Of the allocated memory 8.00 GiB is "
    "allocated by PyTorch, and 60.00 MiB is reserved by PyTorch but unallocated. If reserved but "
    "unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to "
    "avoid fragmentation."
)
OLD_IN_WORDS = (
    "the NVIDIA driver (up to CUDA 11.4) is too old for this torch, which needs CUDA 13.0; install "
    "a newer driver, or a torch for an older CUDA"
)
FULL_IN_WORDS = (
    "CUDA out of memory: 20.00 MiB were requested, and 12.81 MiB of 79.10 GiB were free on GPU 0; "
    "process 41 has 70.50 GiB"
)


@pytest.fixture
def make_torch(monkeypatch):
    """Return a function that makes torch see some GPUs, or refuse with a text."""

    def make(*, count=0, refusal=None, cuda="13.0", visible=None):
        def init():
            if refusal:
                raise RuntimeError(refusal)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count or 1)  # NVML counts others
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


@pytest.mark.parametrize(
    ("name", "torch_sees", "expected"),
    [
        ("cuda:2", {"count": 2}, "torch sees 2 CUDA devices, cuda:0 to cuda:1"),
        ("cuda", {"cuda": None}, "is built without CUDA; install one with CUDA"),
        ("cuda", {"visible": ""}, "CUDA_VISIBLE_DEVICES='' hides every GPU; unset it"),
        ("cuda", {"visible": "-1,0"}, "CUDA_VISIBLE_DEVICES='-1,0' hides every GPU; unset it"),
        ("cuda", {"refusal": NO_DRIVER}, "torch sees 0 CUDA devices: there is no NVIDIA driver"),
        (
            "cuda",
            {"refusal": TOO_OLD},
            OLD_IN_WORDS,
        ),
        (
            "cuda",
            {"refusal": "No CUDA GPUs are available", "visible": "9"},
            "the driver shows none; CUDA_VISIBLE_DEVICES is 9",
        ),
        ("cuda", {"refusal": f"CUDA unknown error - this{TRAIL}"}, "CUDA unknown error - this"),
        ("cuda", {}, "it gives no reason; nvidia-smi shows"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_gpu_that_is_not_there_is_bad_input_in_one_sentence(
    name, torch_sees, expected, make_torch
):
    make_torch(**torch_sees)

    with pytest.raises(BadInput) as raised:
        open_device(name)
    message = str(raised.value)
    assert message.startswith(f"no device '{name}' here: ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        (
            f"CUDA error: CUDA-capable device(s) is/are busy or unavailable{TRAIL}",
            Status.CRASHED,
            "the GPU is busy or may not be used: another process uses it exclusively",
        ),
        (
            f"CUDA error: all CUDA-capable devices are busy or unavailable{TRAIL}",
            Status.CRASHED,
            "the GPU is busy or may not be used: another process uses it exclusively",
        ),
        (
            f"CUDA error: no kernel image is available for execution on the device{TRAIL}",
            Status.CRASHED,
            "this torch has no code for this GPU",
        ),
        (
            f"CUDA error: invalid device ordinal{TRAIL}",
            Status.CRASHED,
            "torch sees no GPU of this number",
        ),
        (
            FULL,
            Status.OUT_OF_MEMORY,
            FULL_IN_WORDS,
        ),
        (f"CUDA error: out of memory{TRAIL}", Status.OUT_OF_MEMORY, "CUDA error: out of memory"),
        (
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            Status.OUT_OF_MEMORY,
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_error_of_cuda_becomes_an_outcome_in_one_sentence(text, status, expected):
    answer = failure(RuntimeError(text))

    assert answer.status == status
    assert answer.reason.startswith(expected)
    assert "\n" not in answer.reason
    assert "DSA" not in answer.reason


def test_an_error_that_is_not_known_keeps_its_text():
    assert cuda_faults.explained("CUDA error: an illegal memory access was encountered") == ""
    assert cuda_faults.explained("the office is busy or unavailable") == ""
