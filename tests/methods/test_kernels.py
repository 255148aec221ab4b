"""Compiled kernels give what eager ones give, and nobody is left to guess which ran."""

import inspect
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts import kernels, quantise
from bsrbench.methods.parts.gelu_levels import FIND
from bsrbench.methods.parts.group_codes import PACK2, PACK4, UNPACK4
from bsrbench.methods.parts.quantise import draws, step_of
from bsrbench.methods.parts.quantise8 import MOVE8, PACK8, UNPACK8

BROKEN = replace(PACK8, place="bsrbench.methods.parts.quantise8:NOWHERE")


@pytest.fixture
def way(monkeypatch):
    """Return a setter of the way kernels run; forgets what was chosen before and after."""

    def choose(wanted):
        monkeypatch.setenv(kernels.SETTING, wanted)
        kernels.chosen.cache_clear()

    yield choose
    kernels.chosen.cache_clear()


@pytest.mark.parametrize("shape", [(85, 384), (7, 36)])
def test_compiled_codes_equal_eager_ones(shape, way):
    """Both shapes run on one compiled kernel: it was made for any."""
    way("compiled")
    torch.manual_seed(0)
    x = torch.randn(shape)
    low = x.amin(0)
    step = step_of(low, x.amax(0) - low, 8)
    arguments = (x, step.reciprocal(), -low / step, *draws(x, stochastic=True))
    words = PACK8(*arguments)
    restored = UNPACK8(words, low, step)

    assert kernels.facts([PACK8, UNPACK8])["kernels"] == "compiled"
    assert torch.equal(PACK8.eager(*arguments), words)
    # One unit in the last place of the largest number added.
    torch.testing.assert_close(restored, UNPACK8.eager(words, low, step), rtol=0, atol=5e-7)


def test_compiled_codes_of_two_bits_equal_eager_ones(way):
    """Sixteen to a word: of numbers in groups, and of the levels that derivatives have."""
    way("compiled")
    torch.manual_seed(0)
    x = 3 * torch.randn(85, 256)
    arguments = (x, *draws(x, stochastic=True))
    for compiled, eager in zip(PACK2(*arguments), PACK2.eager(*arguments), strict=True):
        assert torch.equal(compiled, eager)

    assert torch.equal(FIND(x), FIND.eager(x))
    assert kernels.facts([PACK2, FIND])["kernels"] == "compiled"


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


def test_a_kernel_is_compiled_anew_when_what_it_calls_changes():
    assert inspect.getsource(quantise) in PACK8.sources()


def test_eager_is_no_fallback_where_it_was_asked_for(way):
    way("eager")

    assert kernels.facts([PACK4]) == {"kernels": "eager", "kernel_compile_seconds": 0.0}


def test_says_why_it_fell_back(way):
    way("auto")
    said = kernels.facts([BROKEN])

    assert said["kernels"] == "eager"
    assert "NOWHERE" in said["fallback"]


def test_does_not_fall_back_where_compiling_was_asked_for(way):
    way("compiled")

    with pytest.raises(Unsupported, match=r"cannot be compiled: .*NOWHERE"):
        kernels.chosen(BROKEN, "cpu")


def test_refuses_another_way(way):
    way("fast")

    with pytest.raises(Unsupported, match="'fast' must be one of auto, compiled, eager"):
        kernels.chosen(PACK8, "cpu")


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
