"""Kernels in a cache of their own, and a module of kernels whose compiled form is planted."""

import os
import sys

import pytest

from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE
from bsrbench.methods.parts import kernel_builds, kernels
from bsrbench.methods.parts.kernel_builds import build_of


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
    """Return the folder of compiled kernels, which does not exist yet."""
    monkeypatch.setenv(COMPILER_CACHE, str(tmp_path / "compiled"))
    return kernel_builds.kernel_folder()


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
    """Return a function that builds two kernels, the second with the given body or right."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "planted_kernels.py").write_text(PLANTED)

    def build(body=RIGHT):
        bodies = {"first": RIGHT, "second": body}
        functions = [FUNCTION.format(name=name, body=text) for name, text in bodies.items()]
        source = tmp_path / "planted.cpp"
        source.write_text("\n".join(["#include <unistd.h>", *functions]))
        way("auto")
        return build_of("planted_kernels", str(source), "cpu")

    yield build
    sys.modules.pop("planted_kernels", None)
