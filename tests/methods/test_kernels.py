"""Compiled kernels give what eager ones give; one that cannot be used never takes a trial down."""

import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts import kernel_builds, kernel_check, kernels, quantise
from bsrbench.methods.parts.gelu_levels import FIND, READ
from bsrbench.methods.parts.group_codes import PACK2, PACK4, UNPACK2, UNPACK4
from bsrbench.methods.parts.kernel_builds import Build, build_of
from bsrbench.methods.parts.pruned_tensors import KEEP, SPREAD
from bsrbench.methods.parts.quantise import draws, step_of
from bsrbench.methods.parts.quantise8 import MOVE8, PACK8, UNPACK8

BROKEN = replace(PACK8, place="bsrbench.methods.parts.quantise8:NOWHERE")
ALL = (MOVE8, PACK8, UNPACK8, PACK2, UNPACK2, PACK4, UNPACK4, FIND, READ, KEEP, SPREAD)


@pytest.fixture
def way(monkeypatch):
    """Return a setter of the way kernels run; forgets earlier choices before and after."""

    def choose(wanted):
        monkeypatch.setenv(kernels.SETTING, wanted)
        kernels.chosen.cache_clear()
        build_of.cache_clear()

    yield choose
    kernels.chosen.cache_clear()
    build_of.cache_clear()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(kernel_builds, "kernel_folder", lambda: folder)
    return folder


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


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.symbol)
def test_what_accelerators_compile_gives_what_is_eager(kernel):
    """``torch.compile`` of the same function, here with its back end for CPUs."""
    assert kernel_check.fault_of(kernel, Build(None), "cpu") == ""


def test_a_kernel_is_checked_again_when_what_it_calls_changes():
    assert inspect.getsource(quantise) in kernel_builds.sources_of(PACK8.place.partition(":")[0])


def test_eager_is_no_fallback_where_it_was_asked_for(way):
    way("eager")

    assert kernels.facts([PACK4]) == {"kernels": "eager", "kernel_compile_seconds": 0.0}


def test_the_first_use_reports_the_seconds_of_building_and_later_ones_none(way, empty_cache):
    way("compiled")
    first = kernels.facts([PACK2, UNPACK2])
    way("compiled")  # as another process would find it
    later = kernels.facts([PACK2, UNPACK2])

    assert first["kernel_compile_seconds"] > 0
    assert later == {"kernels": "compiled", "kernel_compile_seconds": 0.0}
    assert {path.suffix for path in empty_cache.iterdir()} == {".so", ".json"}


def test_seconds_of_building_count_once_where_kernels_fail(way, monkeypatch):
    build = Build(None, {"PACK8": "it differs", "UNPACK8": "it differs"}, 3.0)
    monkeypatch.setattr(kernels, "build_of", lambda *_: build)
    way("auto")
    stated = kernels.facts([PACK8, UNPACK8])

    assert stated["kernel_compile_seconds"] == 3.0
    assert stated["fallback"].endswith("slower: kernel PACK8: it differs")


def test_says_why_it_fell_back(way):
    way("auto")
    stated = kernels.facts([BROKEN])

    assert stated["kernels"] == "eager"
    assert "NOWHERE" in stated["fallback"]


def test_does_not_fall_back_where_compiling_was_asked_for(way):
    way("compiled")

    with pytest.raises(Unsupported, match=r"cannot run compiled: .*NOWHERE"):
        kernels.chosen(BROKEN, "cpu")


def test_refuses_another_way(way):
    way("fast")

    with pytest.raises(Unsupported, match="'fast' must be one of auto, compiled, eager"):
        kernels.chosen(PACK8, "cpu")


# A kernel module whose compiled form is planted: its C++ function is the last line.
PLANTED = """
import torch
from bsrbench.methods.parts.kernels import Kernel

def _twice(x):
    return 2 * x

def _example():
    return (torch.arange(64.0).view(8, 8),)

_ALIKE = _twice, _twice, torch.empty_like, _example, "planted.cpp"
FIRST = Kernel(f"{__name__}:FIRST", *_ALIKE, "first")
SECOND = Kernel(f"{__name__}:SECOND", *_ALIKE, "second")
"""
RIGHT = "for (long i = 0; i < rows * columns; ++i) out[i] = 2 * x[i];"
FUNCTION = (
    'extern "C" void {name}(const float* x, float* out, long rows, long columns, int) {{ {body} }}'
)


@pytest.fixture
def planted(tmp_path, monkeypatch, empty_cache, way):
    """Return a function that builds two kernels, the second with the given body."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "planted_kernels.py").write_text(PLANTED)

    def build(body):
        bodies = {"first": RIGHT, "second": body}
        functions = [FUNCTION.format(name=name, body=text) for name, text in bodies.items()]
        source = tmp_path / "planted.cpp"
        source.write_text("\n".join(functions))
        way("auto")
        return build_of("planted_kernels", str(source), "cpu")

    yield build
    sys.modules.pop("planted_kernels", None)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("*(volatile int*)0 = 1;", "its check was ended by SIGSEGV"),
        ('for (;;) asm volatile("");', "its check did not end within 5 s"),
        ("out[3] = 1;", "1 of its results differ from those of torch's operators"),
    ],
    ids=["crashes", "hangs", "differs"],
)
def test_a_kernel_that_fails_its_check_is_not_used(body, fault, planted, monkeypatch):
    monkeypatch.setattr(kernel_builds, "CHECK_SECONDS", 5.0 if "asm" in body else 300.0)
    build = planted(body)

    assert build.fault_of("FIRST") == ""
    assert build.fault_of("SECOND") == f"kernel SECOND: {fault}"


def test_a_kernel_that_passes_its_check_is_used(planted):
    build = planted(RIGHT)

    assert build.faults == {"FIRST": "", "SECOND": ""}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"faults": 3}'])
def test_a_damaged_result_of_a_check_is_made_again(damage, way, empty_cache):
    way("compiled")
    module = FIND.place.partition(":")[0]
    build_of(module, FIND.source, "cpu")
    (result,) = empty_cache.glob("*.json")
    result.write_bytes(damage)
    build_of.cache_clear()

    assert build_of(module, FIND.source, "cpu").fault_of("FIND") == ""
    assert json.loads(result.read_text())["faults"] == {"FIND": "", "READ": ""}


def test_a_library_that_was_cut_off_is_not_loaded(way, empty_cache):
    way("auto")
    module = FIND.place.partition(":")[0]
    build_of(module, FIND.source, "cpu")
    (library,) = empty_cache.glob("*.so")
    library.write_bytes(library.read_bytes()[:5000])
    build_of.cache_clear()

    assert build_of(module, FIND.source, "cpu").fault_of("FIND") == ""


def test_a_cache_that_cannot_be_written_is_no_end(way, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kernel_builds, "kernel_folder", lambda: tmp_path / "file" / "cache")
    way("auto")
    stated = kernels.facts([FIND])

    assert stated["kernels"] == "eager"
    assert "Not a directory" in stated["fallback"]


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
