"""Say in one sentence why a GPU cannot be used, and what to do about it."""

import os
import re
import warnings

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
CUDA_NUMBER = re.compile(r"found version (\d+)")  # 11040 means CUDA 11.4
# CUDA's and torch's texts of errors in which a part is known, and what they mean.
MEANINGS = {
    "busy or unavailable": "the GPU is busy or may not be used: another process uses it "
    "exclusively, or this user has no access. Look at processes and compute mode with nvidia-smi; "
    "wait until it is free, or choose another GPU",
    "no kernel image is available": "this torch has no code for this GPU: install a torch that was "
    "built for its compute capability",
    "invalid device ordinal": "torch sees no GPU of this number: choose another one, or change "
    "CUDA_VISIBLE_DEVICES",
}
# Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of which 12.81 MiB is free.
TOO_SMALL = re.compile(
    r"Tried to allocate (?P<asked>[\d.]+ \w+)\. GPU (?P<gpu>\d+) has a total capacity of "
    r"(?P<total>[\d.]+ \w+) of which (?P<free>[\d.]+ \w+) is free"
)
OTHERS = re.compile(r"Process (\d+) has ([\d.]+ \w+) memory in use")


def why_absent(index: int) -> str:
    """Return why torch cannot use the GPU of a number; empty if it can."""
    with warnings.catch_warnings():
        # torch warns with a long text if the driver is too old; the error below names the fault.
        warnings.filterwarnings("ignore", "CUDA initialization", UserWarning)
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index < count:
        return ""
    if count:
        return f"torch sees {count} CUDA devices, cuda:0 to cuda:{count - 1}"
    return f"torch sees 0 CUDA devices: {_why_none()}"


def _why_none() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install one with CUDA"
    hidden = os.environ.get(VISIBLE)
    if hidden is not None and not hidden.split(",")[0].strip().removeprefix("-1"):
        return f"{VISIBLE}={hidden!r} hides every GPU; unset it, or set it to the number of a GPU"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return _why_not_started(str(error))
    return "it gives no reason; nvidia-smi shows whether the driver works"


def _why_not_started(text: str) -> str:
    """Return what torch's text means, when it cannot start CUDA."""
    if "driver on your system is too old" in text:
        number = CUDA_NUMBER.search(text)
        known = int(number[1]) if number else 0
        newest = f" (up to CUDA {known // 1000}.{known % 1000 // 10})" if known else ""
        return (
            f"the NVIDIA driver{newest} is too old for this torch, which needs CUDA "
            f"{torch.version.cuda}; install a newer driver, or a torch for an older CUDA"
        )
    if "Found no NVIDIA driver" in text:
        return "there is no NVIDIA driver"
    if "No CUDA GPUs are available" in text:
        return f"the driver shows none; {VISIBLE} is {os.environ.get(VISIBLE, 'not set')}"
    return explained(text) or text.splitlines()[0]


def explained(text: str) -> str:
    """Return in one sentence what an error of CUDA means; empty if it is not known.

    Args:
        text: the text of the error that torch raised.
    """
    if (small := TOO_SMALL.search(text)) is not None:
        others = [f"process {number} has {size}" for number, size in OTHERS.findall(text)]
        beside = f"; {', '.join(others)}" if others else ""
        return (
            f"CUDA out of memory: {small['asked']} were requested, and {small['free']} of "
            f"{small['total']} were free on GPU {small['gpu']}{beside}"
        )
    if "CUDA error" not in text and "CUDA-capable" not in text:
        return ""
    first = text.splitlines()[0]
    return next((f"{words} ({first})" for part, words in MEANINGS.items() if part in text), "")
