"""Kernels on a GPU: codes equal to eager's over 20 shapes, and faults that cost a sentence."""

import os
import sys

import pytest
import torch

from bsrbench.methods.parts import kernel_builds
from bsrbench.methods.parts.gelu_levels import FIND, READ
from bsrbench.methods.parts.group_codes import PACK2, PACK4, UNPACK2, UNPACK4
from bsrbench.methods.parts.kernel_builds import Build, build_of
from bsrbench.methods.parts.kernel_check import fault_of
from bsrbench.methods.parts.pruned_tensors import KEEP, SPREAD
from bsrbench.methods.parts.quantise import draws, step_of
from bsrbench.methods.parts.quantise8 import EXTREMES8, MOVE8, PACK8, UNPACK8

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
ALL = (EXTREMES8, MOVE8, PACK8, UNPACK8, PACK2, UNPACK2, PACK4, UNPACK4, FIND, READ, KEEP, SPREAD)
# Rows and columns: one, fewer and more than the period of the noise, no whole vector.
SHAPES = [(rows, columns) for rows in (1, 7, 126, 127, 300) for columns in (16, 48, 256, 1040)]


def compiled(kernel, *arguments):
    return kernel.compiled(Build(None))(*arguments)


@pytest.fixture(params=SHAPES, ids=str)
def numbers(request):
    torch.manual_seed(0)
    return 3 * torch.randn(request.param, device=DEVICE)


def test_codes_of_eight_bits_equal_eager_ones(numbers):
    low = numbers.amin(0)
    step = step_of(low, numbers.amax(0) - low, 8)
    arguments = (numbers, step.reciprocal(), -low / step, *draws(numbers, stochastic=True))
    words = compiled(PACK8, *arguments)

    assert torch.equal(PACK8.eager(*arguments), words)
    # One unit in the last place of the largest number added.
    restored, expected = compiled(UNPACK8, words, low, step), UNPACK8.eager(words, low, step)
    torch.testing.assert_close(restored, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("pack", "unpack"), [(PACK2, UNPACK2), (PACK4, UNPACK4)])
def test_codes_of_groups_equal_eager_ones(pack, unpack, numbers):
    arguments = (numbers, *draws(numbers, stochastic=True))
    packed = compiled(pack, *arguments)

    for result, expected in zip(packed, pack.eager(*arguments), strict=True):
        assert torch.equal(result, expected)
    assert torch.equal(compiled(unpack, *packed), unpack.eager(*packed))


def test_levels_equal_eager_ones(numbers):
    words = compiled(FIND, numbers)

    assert torch.equal(FIND.eager(numbers), words)
    assert torch.equal(compiled(READ, words), READ.eager(words))


def test_pruned_tensors_equal_eager_ones(numbers):
    kept = max(1, numbers.shape[1] // 10)
    values, bits = compiled(KEEP, numbers, kept)
    expected_values, expected_bits = KEEP.eager(numbers, kept)
    width = numbers.shape[1]

    assert torch.equal(values.cpu(), KEEP.eager(numbers.cpu(), kept)[0])
    assert torch.equal(values, expected_values)
    assert torch.equal(bits, expected_bits)
    assert torch.equal(compiled(SPREAD, values, bits, width), SPREAD.eager(values, bits, width))


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.symbol)
def test_every_kernel_passes_the_check_that_a_run_makes(kernel):
    assert fault_of(kernel, Build(None), DEVICE) == ""


# A module whose kernel is compiled by a torch.compile of its own, which the check then runs.
PLANTED = """
import torch
from bsrbench.methods.parts.kernels import Kernel

def _twice(x):
    return 2 * x

def _example():
    return (torch.arange(64.0).view(8, 8),)

def _planted(x):
    {body}

torch.compile = lambda function, **_: _planted
ONLY = Kernel(f"{{__name__}}:ONLY", _twice, _twice, torch.empty_like, _example, "none.cpp", "none")
"""


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("import ctypes; ctypes.string_at(0)", "its check was ended by SIGSEGV"),
        ("while True: pass", "its check did not end within 60 s"),
        ("return 3 * x", "1 of its results differ from those of torch's operators"),
        ("raise RuntimeError('no such card')", "RuntimeError: no such card"),
    ],
    ids=["crashes", "hangs", "differs", "raises"],
)
def test_a_kernel_that_fails_its_check_is_not_used(
    body, fault, tmp_path, monkeypatch, empty_cache, way
):
    (tmp_path / "planted_on_gpu.py").write_text(PLANTED.format(body=body))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(kernel_builds, "CHECK_SECONDS", 60.0 if "while" in body else 300.0)
    way("auto")
    build = build_of("planted_on_gpu", "none.cpp", DEVICE)
    sys.modules.pop("planted_on_gpu", None)

    assert build.fault_of("ONLY") == f"kernel ONLY: {fault}"


def test_a_kernel_that_passes_its_check_is_used(tmp_path, monkeypatch, empty_cache, way):
    (tmp_path / "planted_on_gpu.py").write_text(PLANTED.format(body="return 2 * x"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    way("auto")

    assert build_of("planted_on_gpu", "none.cpp", DEVICE).fault_of("ONLY") == ""
