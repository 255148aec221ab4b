"""Run code compiled once a machine, or more slowly where nothing can compile it."""

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
NAMESPACE = "bsrbench"  # of our operators
WAYS = ("auto", "compiled", "eager")
NATIVE = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp")
# Threads are taken from torch when a kernel runs, not fixed when it is compiled.
INDUCTOR = {"cpp.dynamic_threads": True, "aot_inductor.compile_wrapper_opt_level": "O0"}


class Compiled(ABC):
    """What is compiled, and how. Kept in inductor's cache; a trial only loads it.

    Attributes:
        place: ``module:name`` under which this object is found.
        suffix: of the file's name.
    """

    place: str
    suffix: ClassVar[str]

    @property
    def module(self) -> ModuleType:
        """The module that has it."""
        return importlib.import_module(self.place.partition(":")[0])

    @abstractmethod
    def sources(self) -> list[str]:
        """Return all that decides what is compiled."""

    @abstractmethod
    def build(self, target: Path, device: str) -> str:
        """Compile into ``target``; return why it failed, or ""."""

    @abstractmethod
    def load(self, built: Path) -> Any:
        """Return what can be called."""


@dataclass(frozen=True, eq=False)
class Kernel(Compiled):
    """A function of fp32 and integer tensors in torch's operators, and how to compile it.

    torch.compile's back ends (C++ on a CPU, Triton on CUDA) make one pass over memory of it, for
    every shape, in a process of its own. Both ways compute the same operations in the same order.

    Attributes:
        function: what to compute.
        eager: the same, a chunk at a time so that it stays in the processor's cache.
        example: makes inputs to compile with.
        shapes: which dimensions may vary, as ``torch.export`` wants them.
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
        """Return the sources of its module, of ours that it imports from, and of this one."""
        used = {getattr(value, "__module__", None) for value in vars(self.module).values()}
        ours = {name for name in used if name and name.startswith(f"{__package__}.")}
        modules = sorted({self.module.__name__, __name__} | ours)
        return [inspect.getsource(sys.modules[name]) for name in modules]

    def build(self, target: Path, device: str) -> str:
        """Compile in another process, whose memory is not this one's."""
        root = Path(__file__).absolute().parents[3]
        paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", __name__, self.place, str(target), device]
        return _run(command, os.environ | {"PYTHONPATH": paths})

    def load(self, built: Path) -> Any:
        """Return what runs it, without the compiler."""
        return load_package(built)


@dataclass(frozen=True, eq=False)
class Native(Compiled):
    """A C++ file beside its module, for what torch's operators cannot say well; for CPUs.

    Attributes:
        file: its name.
    """

    place: str
    file: str

    suffix = ".so"

    @property
    def source(self) -> Path:
        """Where it is."""
        return Path(str(self.module.__file__)).with_name(self.file)

    def sources(self) -> list[str]:
        """Return the file and the command."""
        return [self.source.read_text(), *NATIVE]

    def build(self, target: Path, device: str) -> str:  # noqa: ARG002 - a CPU
        """Compile with the compiler that inductor would take."""
        compiler = os.environ.get("CXX", "g++")
        return _run([compiler, *NATIVE, "-o", str(target), str(self.source)], os.environ)

    def load(self, built: Path) -> ctypes.CDLL:
        """Return the library."""
        return ctypes.CDLL(str(built))


@dataclass(frozen=True)
class KernelChoice:
    """How a kernel runs in this process.

    Attributes:
        run: what was compiled; ``None`` is eager.
        fallback: why it is eager although nobody asked for that; else empty.
        compile_seconds: spent on compiling; 0 where it was found compiled.
    """

    run: Any
    fallback: str = ""
    compile_seconds: float = 0.0


def facts(kernels: Sequence[Compiled], device: str = "cpu") -> dict[str, Any]:
    """Return what a record says about the kernels a method runs on."""
    found = [chosen(kernel, device) for kernel in kernels]
    said: dict[str, Any] = {
        "kernels": "eager" if any(choice.run is None for choice in found) else "compiled",
        "kernel_compile_seconds": sum(choice.compile_seconds for choice in found),
    }
    if why := next((choice.fallback for choice in found if choice.fallback), ""):
        said["fallback"] = f"compressing runs eagerly, which is slower: {why}"
    return said


@cache
def chosen(kernel: Compiled, device: str) -> KernelChoice:
    """Choose, once a process, how a kernel runs.

    ``BSRBENCH_KERNELS`` says ``compiled`` or ``eager``; ``auto`` compiles where it can.

    Raises:
        Unsupported: the setting is none of the three, or compiling was asked for and fails.
    """
    wanted = os.environ.get(SETTING, "auto")
    if wanted not in WAYS:
        raise Unsupported(f"{SETTING}={wanted!r} must be one of {', '.join(WAYS)}")
    if wanted == "eager":
        return KernelChoice(None)
    built = _built(kernel, device)
    seconds = 0.0
    if not built.exists():
        began = time.perf_counter()
        failure = _build(kernel, built, device)
        seconds = time.perf_counter() - began
        if failure and wanted == "compiled":
            raise Unsupported(f"{kernel.place} cannot be compiled: {failure}")
        if failure:
            return KernelChoice(None, failure)
    return KernelChoice(kernel.load(built), compile_seconds=seconds)


def operator(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``run`` as an operator of torch, so that meters see it and fake tensors pass it.

    It has no gradient. ``torch.library.custom_op`` does the same with more Python a call.

    Args:
        schema: name, arguments and results, as in torch's own operators.
        run: computes it.
        fake: makes results of the same shapes without computing.
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
    """Return where it is kept compiled; another source, torch or processor is another file."""
    parts = [*kernel.sources(), kernel.place, torch.__version__, device]
    parts.append(torch.backends.cpu.get_cpu_capability())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    name = f"{kernel.place.rpartition(':')[2]}-{digest}{kernel.suffix}"
    return compiler_cache() / "bsrbench" / name


def _build(kernel: Compiled, target: Path, device: str) -> str:
    """Compile into the cache, whole or not at all; return why it failed, or ""."""
    # In a folder of its own: the compiler writes more files beside it, and looks at its ending.
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
    """A function as the module that ``torch.export`` wants."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: Tensor) -> Any:
        """Compute the function."""
        return self._function(*tensors)


if __name__ == "__main__":
    _compile(*sys.argv[1:])
