"""Compiled kernels give what eager ones give; one that cannot be used never takes a trial down."""

import inspect
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch

from bsrbench.methods.parts import kernel_builds, kernel_check, kernels, quantise
from bsrbench.methods.parts.gelu_levels import FIND, READ
from bsrbench.methods.parts.group_codes import PACK2, PACK4, UNPACK2, UNPACK4
from bsrbench.methods.parts.kernel_builds import Build
from bsrbench.methods.parts.pruned_tensors import KEEP, SPREAD
from bsrbench.methods.parts.quantise import draws, step_of
from bsrbench.methods.parts.quantise8 import EXTREMES8, MOVE8, PACK8, UNPACK8

BROKEN = replace(PACK8, place="bsrbench.methods.parts.quantise8:NOWHERE")
ALL = (EXTREMES8, MOVE8, PACK8, UNPACK8, PACK2, UNPACK2, PACK4, UNPACK4, FIND, READ, KEEP, SPREAD)


# Rows and columns: one, fewer and more than the period of the noise, no whole vector.
SHAPES = [(rows, columns) for rows in (1, 7, 126, 127, 300) for columns in (16, 48, 256, 1040)]


@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_codes_of_eight_bits_equal_eager_ones(shape, way):
    way("compiled")
    torch.manual_seed(0)
    x = torch.randn(shape)
    low = x.amin(0)
    step = step_of(low, x.amax(0) - low, 8)
    arguments = (x, step.reciprocal(), -low / step, *draws(x, stochastic=True))
    words = PACK8(*arguments)

    assert torch.equal(PACK8.eager(*arguments), words)
    assert torch.equal(PACK8.function(*arguments), words)
    # One unit in the last place of the largest number added.
    restored, expected = UNPACK8(words, low, step), UNPACK8.eager(words, low, step)
    torch.testing.assert_close(restored, expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("pack", "unpack"), [(PACK2, UNPACK2), (PACK4, UNPACK4)])
def test_compiled_codes_of_groups_equal_eager_ones(pack, unpack, shape, way):
    way("compiled")
    torch.manual_seed(0)
    x = 3 * torch.randn(shape)
    arguments = (x, *draws(x, stochastic=True))
    packed = pack(*arguments)

    for compiled, eager in zip(packed, pack.eager(*arguments), strict=True):
        assert torch.equal(compiled, eager)
    assert torch.equal(unpack(*packed), unpack.eager(*packed))


@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_levels_equal_eager_ones(shape, way):
    way("compiled")
    torch.manual_seed(0)
    x = 3 * torch.randn(shape)
    words = FIND(x)

    assert torch.equal(FIND.eager(x), words)
    assert torch.equal(READ.eager(words), READ(words))


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("pack", "unpack"), [(PACK2, UNPACK2), (PACK4, UNPACK4)])
def test_a_group_with_a_number_that_is_not_finite_is_read_as_none(pack, unpack, number, way):
    way("compiled")
    x = torch.linspace(-1, 1, 3 * 64).view(3, 64)
    x[1, 5] = number
    restored = unpack(*pack(x, *draws(x, stochastic=False)))

    assert not restored[1].isfinite().any()
    assert restored[[0, 2]].isfinite().all()


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3), (5, 1), (9, 17)])
@pytest.mark.parametrize("number", [0.0, torch.nan, torch.inf, -torch.inf])
def test_compiled_extremes_equal_eager_ones(shape, number, way):
    way("compiled")
    torch.manual_seed(0)
    x = torch.randn(shape)
    x[0, 0] = x[shape[0] // 2, -1] = x[-1, shape[1] // 2] = number

    for compiled, eager in zip(EXTREMES8(x), EXTREMES8.eager(x), strict=True):
        torch.testing.assert_close(compiled, eager, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", [(6, 64), (1, 36), (3, 1), (1, 1)])
@pytest.mark.parametrize("first", [True, False])
def test_compiled_ranges_equal_eager_ones(shape, first, way):
    way("compiled")
    torch.manual_seed(0)
    lows = torch.randn(shape)
    highs = lows + torch.rand(shape)
    low, width = torch.full((2, shape[0]), torch.nan) if first else torch.rand(2, shape[0])

    for compiled, eager in zip(
        MOVE8(lows, highs, low, width), MOVE8.eager(lows, highs, low, width), strict=True
    ):
        torch.testing.assert_close(compiled, eager, rtol=2e-7, atol=0)  # one unit in the last place


def faults_of_compiled():
    return {kernel.symbol: kernel_check.fault_of(kernel, Build(None), "cpu") for kernel in ALL}


@pytest.fixture(scope="module")
def compiled_faults():
    """Return the fault of each kernel, checked in a clean process as a trial's kernels are."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(faults_of_compiled).result()


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.symbol)
def test_what_accelerators_compile_gives_what_is_eager(kernel, compiled_faults):
    """``torch.compile`` of the same function, here with its back end for CPUs."""
    assert compiled_faults[kernel.symbol] == ""


def test_a_kernel_is_checked_again_when_what_it_calls_changes():
    assert inspect.getsource(quantise) in kernel_builds.sources_of(PACK8.place.partition(":")[0])


def test_chunks_change_nothing():
    """Eager kernels work a chunk at a time; the numbers are those of the whole."""
    torch.manual_seed(0)
    x = torch.randn(1300, 256)  # three chunks
    arguments = (x, *draws(x, stochastic=True))
    whole, chunked = PACK4.function(*arguments), PACK4.eager(*arguments)

    for one, other in zip(whole, chunked, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(UNPACK4.function(*whole), UNPACK4.eager(*whole))


def test_loading_a_kernel_does_not_load_the_compiler(way):
    """A trial's process must not hold the compiler's memory."""
    way("compiled")
    kernels.chosen(UNPACK8, "cpu")  # compiled by now
    code = (
        "import sys; from bsrbench.methods.parts.quantise8 import UNPACK8;"
        "from bsrbench.methods.parts import kernels;"
        "assert kernels.chosen(UNPACK8, 'cpu').run; print('torch._inductor.graph' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
