"""What torch and timm have decided is asked of them, whoever said so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm.layers
import torch

from bsrbench.harness.devices import numeric_settings

ROOT = Path(__file__).resolve().parents[3]
ASK = """
import json
from bsrbench.harness.devices.numeric_settings import settings
print(json.dumps(settings("cpu")))
"""


def put(holder, name):
    """Return what sets an attribute of torch's back ends."""
    return lambda value: setattr(holder, name, value)


CHANGES = {
    "TIMM_FUSED_ATTN": (timm.layers.set_fused_attn, False, True, "0"),
    "TIMM_REENTRANT_CKPT": (timm.layers.set_reentrant_ckpt, True, False, "1"),
    "torch.default_dtype": (torch.set_default_dtype, torch.float64, torch.float32, "float64"),
    "torch.deterministic_debug_mode": (torch.set_deterministic_debug_mode, 1, 0, "1"),
    "torch.flush_denormal": (torch.set_flush_denormal, True, False, "1"),
    "torch.backends.cuda.flash_sdp": (torch.backends.cuda.enable_flash_sdp, False, True, "0"),
    "torch.backends.cuda.math_sdp": (torch.backends.cuda.enable_math_sdp, False, True, "0"),
    "torch.backends.mha.fastpath": (torch.backends.mha.set_fastpath_enabled, False, True, "0"),
    "torch.backends.mkldnn.deterministic": (
        *(put(torch.backends.mkldnn, "deterministic"), True, False, "1"),
    ),
    "torch.backends.mkldnn.matmul.fp32_precision": (
        *(put(torch.backends.mkldnn.matmul, "fp32_precision"), "bf16", "none", "bf16"),
    ),
    "torch.backends.cudnn.benchmark": (
        *(put(torch.backends.cudnn, "benchmark"), True, False, "1"),
    ),
    "torch.backends.cuda.mem_efficient_sdp": (
        *(torch.backends.cuda.enable_mem_efficient_sdp, False, True, "0"),
    ),
    "torch.backends.cuda.cudnn_sdp": (torch.backends.cuda.enable_cudnn_sdp, False, True, "0"),
    "torch.backends.cudnn.enabled": (*(put(torch.backends.cudnn, "enabled"), False, True, "0"),),
    "torch.backends.cudnn.deterministic": (
        *(put(torch.backends.cudnn, "deterministic"), True, False, "1"),
    ),
    "torch.backends.cudnn.benchmark_limit": (
        *(put(torch.backends.cudnn, "benchmark_limit"), 3, 10, "3"),
    ),
    "torch.backends.cudnn.conv.fp32_precision": (
        *(put(torch.backends.cudnn.conv, "fp32_precision"), "ieee", "tf32", "ieee"),
    ),
    "torch.backends.cuda.matmul.fp32_precision": (
        *(put(torch.backends.cuda.matmul, "fp32_precision"), "tf32", "none", "tf32"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_somebody_makes_is_seen(name):
    change, value, usual, expected = CHANGES[name]
    before = numeric_settings.settings("cuda:0")
    change(value)
    try:
        after = numeric_settings.settings("cuda:0")
    finally:
        change(usual)

    assert {n: v for n, v in after.items() if v != before[n]} == {name: expected}
    assert numeric_settings.settings("cuda:0") == before


def test_settings_of_gpus_are_no_settings_of_a_cpu():
    assert "torch.backends.cudnn.benchmark" not in numeric_settings.settings("cpu")
    assert "torch.backends.cuda.flash_sdp" in numeric_settings.settings(
        "cpu"
    )  # it binds the CPU's, too


def asked(**variables):
    """Return the settings of a process of its own."""
    usual = {n: v for n, v in os.environ.items() if not n.startswith(("TIMM_", "OMP_", "MKL_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=usual | variables,
    )
    return json.loads(done.stdout)


def test_a_variable_that_says_what_holds_anyway_is_no_other_setting():
    """Timm fuses attention unless told not to; times are disturbed, and nothing is decided."""
    usual = asked()

    assert asked(TIMM_FUSED_ATTN="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1") == usual
    assert asked(TIMM_FUSED_ATTN="0", MKL_CBWR="COMPATIBLE") == usual | {
        "TIMM_FUSED_ATTN": "0",
        "MKL_CBWR": "COMPATIBLE",
    }


def test_asking_wakes_no_gpu():
    numeric_settings.settings("cuda")

    assert not torch.cuda.is_initialized()


def test_passes_settings_are_those_of_their_own_process(launcher):
    """What this one has set in timm reaches none of them; its passes would say so in vain."""
    timm.layers.set_fused_attn(False)
    try:
        here, there = numeric_settings.settings("cpu"), launcher.settings("cpu")
    finally:
        timm.layers.set_fused_attn(True)

    assert (here["TIMM_FUSED_ATTN"], there["TIMM_FUSED_ATTN"]) == ("0", "1")
    assert there["BSRBENCH_KERNELS"] == os.environ["BSRBENCH_KERNELS"]
