"""Run kernels that are compiled once per machine, or their slower eager versions."""

import ctypes
import hashlib
import importlib
import inspect
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from bsrbench.harness.method import Unsupported
from bsrbench.harness.torch_internals.compiler_internals import (
    aoti_compile_and_package,
    compiler_cache,
    load_package,
)

SETTING = "BSRBENCH_KERNELS"
NAMESPACE = "bsrbench"  # of the operators that are defined here
WAYS = ("auto", "compiled", "eager")
NATIVE = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp")
# A kernel takes the number of threads from torch when it runs, not when it is compiled.
INDUCTOR = {"cpp.dynamic_threads": True, "aot_inductor.compile_wrapper_opt_level": "O0"}


class Compiled(ABC):
    """A kernel and how to compile it. The result is in inductor's cache; a trial only loads it.

    Attributes:
        place: ``module:name`` of this object.
        suffix: suffix of the compiled file.
    """

    place: str
    suffix: ClassVar[str]

    @property
    def module(self) -> ModuleType:
        """The module that contains this object."""
        return importlib.import_module(self.place.partition(":")[0])

    @abstractmethod
    def sources(self) -> list[str]:
        """Return all texts on which the compiled file depends."""

    @abstractmethod
    def build(self, target: Path, device: str) -> str:
        """Compile into the file ``target``; return the reason of a failure, or ""."""

    @abstractmethod
    def load(self, built: Path) -> Any:
        """Return the compiled code, ready to call."""


@dataclass(frozen=True, eq=False)
class Kernel(Compiled):
    """A function of fp32 and integer tensors, written in torch's operators, and how to compile it.

    A back end of torch.compile (C++ on a CPU, Triton on CUDA) compiles it in a separate process,
    for all shapes. The compiled kernel makes one pass over memory. The compiled and the eager
    version compute the same operations in the same order.

    Attributes:
        function: the function to compile.
        eager: the same function, applied to one chunk at a time; a chunk fits into the processor's
            cache.
        example: makes example inputs for the compiler.
        shapes: returns the dimensions that can vary, as ``dynamic_shapes`` of ``torch.export``.
    """

    place: str
    function: Callable[..., Any]
    eager: Callable[..., Any]
    example: Callable[[], tuple[Tensor, ...]]
    shapes: Callable[[], dict[str, Any]]

    suffix = ".pt2"

    def __call__(self, *tensors: Tensor) -> Any:
        """Compute the function."""
        run = chosen(self, tensors[0].device.type).run
        return self.eager(*tensors) if run is None else _unpack(run(list(tensors)))

    def sources(self) -> list[str]:
        """Return the sources of its module, of the parts that this imports, and of this module."""
        used = {getattr(value, "__module__", None) for value in vars(self.module).values()}
        ours = {name for name in used if name and name.startswith(f"{__package__}.")}
        modules = sorted({self.module.__name__, __name__} | ours)
        return [inspect.getsource(sys.modules[name]) for name in modules]

    def build(self, target: Path, device: str) -> str:
        """Compile in a separate process, so that its memory is not part of this process."""
        root = Path(__file__).absolute().parents[3]
        paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", __name__, self.place, str(target), device]
        return _run(command, os.environ | {"PYTHONPATH": paths})

    def load(self, built: Path) -> Any:
        """Return the function that runs the kernel; this does not load the compiler."""
        return load_package(built)


@dataclass(frozen=True, eq=False)
class Native(Compiled):
    """A C++ kernel for CPUs, where torch's operators do not fit. Its file is beside its module.

    Attributes:
        file: name of the C++ file.
    """

    place: str
    file: str

    suffix = ".so"

    @property
    def source(self) -> Path:
        """Path of the C++ file."""
        return Path(str(self.module.__file__)).with_name(self.file)

    def sources(self) -> list[str]:
        """Return the text of the file and the compiler's options."""
        return [self.source.read_text(), *NATIVE]

    def build(self, target: Path, device: str) -> str:  # noqa: ARG002 - always a CPU
        """Compile with the compiler that inductor uses: ``CXX``, or g++."""
        compiler = os.environ.get("CXX", "g++")
        return _run([compiler, *NATIVE, "-o", str(target), str(self.source)], os.environ)

    def load(self, built: Path) -> ctypes.CDLL:
        """Return the shared library."""
        return ctypes.CDLL(str(built))


@dataclass(frozen=True)
class KernelChoice:
    """How a kernel runs in this process.

    Attributes:
        run: the compiled kernel; ``None``: the eager version runs.
        fallback: why the eager version runs although the setting does not ask for it; else empty.
        compile_seconds: time spent on compiling; 0 if the compiled file was already in the cache.
    """

    run: Any
    fallback: str = ""
    compile_seconds: float = 0.0


def facts(kernels: Sequence[Compiled], device: str = "cpu") -> dict[str, Any]:
    """Return the entries of a record about the kernels of a method."""
    choices = [chosen(kernel, device) for kernel in kernels]
    entries: dict[str, Any] = {
        "kernels": "eager" if any(choice.run is None for choice in choices) else "compiled",
        "kernel_compile_seconds": sum(choice.compile_seconds for choice in choices),
    }
    if why := next((choice.fallback for choice in choices if choice.fallback), ""):
        entries["fallback"] = f"compressing runs eagerly, which is slower: {why}"
    return entries


@cache
def chosen(kernel: Compiled, device: str) -> KernelChoice:
    """Choose how a kernel runs, once per process.

    The environment variable ``BSRBENCH_KERNELS`` is ``compiled``, ``eager`` or ``auto``. With
    ``auto``, the default, the eager version runs if compiling fails.

    Raises:
        Unsupported: the variable has another value, or it is ``compiled`` and compiling fails.
    """
    setting = os.environ.get(SETTING, "auto")
    if setting not in WAYS:
        raise Unsupported(f"{SETTING}={setting!r} must be one of {', '.join(WAYS)}")
    if setting == "eager":
        return KernelChoice(None)
    built = _built(kernel, device)
    seconds = 0.0
    if not built.exists():
        began = time.perf_counter()
        failure = _build(kernel, built, device)
        seconds = time.perf_counter() - began
        if failure and setting == "compiled":
            raise Unsupported(f"{kernel.place} cannot be compiled: {failure}")
        if failure:
            return KernelChoice(None, failure)
    return KernelChoice(kernel.load(built), compile_seconds=seconds)


def operator(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Register ``run`` as an operator of torch, so that meters see it and it takes fake tensors.

    The operator has no gradient. ``torch.library.custom_op`` does the same, but runs more Python
    code per call.

    Args:
        schema: name, arguments and results, in the syntax of torch's own operators.
        run: computes the results.
        fake: makes results of the same shapes without computing them.
    """
    name, _, _ = schema.partition("(")
    place = f"{NAMESPACE}::{name}"
    torch.library.define(place, schema.removeprefix(name))
    torch.library.impl(place, "default", run)
    torch.library.register_fake(place, fake)
    made: Callable[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    return made


def _unpack(made: list[Tensor]) -> Any:
    return made[0] if len(made) == 1 else tuple(made)


def _built(kernel: Compiled, device: str) -> Path:
    """Return the path of the compiled file; it depends on sources, torch, device and processor."""
    parts = [*kernel.sources(), kernel.place, torch.__version__, device]
    parts.append(torch.backends.cpu.get_cpu_capability())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    name = f"{kernel.place.rpartition(':')[2]}-{digest}{kernel.suffix}"
    return compiler_cache() / "bsrbench" / name


def _build(kernel: Compiled, target: Path, device: str) -> str:
    """Compile into the cache, completely or not at all; return the reason of a failure, or ""."""
    # Compile in a temporary folder, because the compiler writes more files beside the target. Keep
    # the file's name, because the compiler reads its suffix.
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial = Path(folder) / target.name
            if failure := kernel.build(partial, device):
                return failure
            partial.replace(target)
    except OSError as error:
        return str(error)
    return ""


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


def _compile(place: str, target: str, device: str) -> None:
    """Compile the kernel at ``place`` into the file ``target``."""
    module, _, name = place.partition(":")
    kernel: Kernel = getattr(importlib.import_module(module), name)
    tensors = tuple(tensor.to(device) for tensor in kernel.example())
    exported = torch.export.export(
        _Module(kernel.function), tensors, dynamic_shapes=(tuple(kernel.shapes().values()),)
    )
    aoti_compile_and_package(exported, target, INDUCTOR)


class _Module(torch.nn.Module):
    """A module that calls a function, because ``torch.export`` takes only modules."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: Tensor) -> Any:
        """Compute the function."""
        return self._function(*tensors)


if __name__ == "__main__":
    _compile(*sys.argv[1:])
