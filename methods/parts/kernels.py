"""Run functions of tensors compiled ahead of time, or eagerly where nothing can compile them."""

import hashlib
import importlib
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.method import Unsupported

SETTING = "BSRBENCH_KERNELS"
WAYS = ("auto", "compiled", "eager")
# Threads are taken from torch when a kernel runs, not fixed when it is compiled.
INDUCTOR = {"cpp.dynamic_threads": True, "aot_inductor.compile_wrapper_opt_level": "O0"}


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function of fp32 and integer tensors in torch's operators, and how to compile it.

    torch.compile's back ends (C++ on a CPU, Triton on CUDA) make one pass over memory of it. It is
    compiled once a machine, in a process of its own, for every shape, and kept in inductor's
    cache; a trial only loads it. Both ways compute the same operations in the same order.

    Attributes:
        place: ``module:name`` under which this object is found.
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

    def __call__(self, *tensors: Tensor) -> Any:
        """Compute the function."""
        run = chosen(self, tensors[0].device.type).run
        return self.eager(*tensors) if run is None else _unpack(run(list(tensors)))


@dataclass(frozen=True)
class Choice:
    """How a kernel runs in this process.

    Attributes:
        run: the compiled kernel; ``None`` is eager.
        fallback: why it is eager although nobody asked for that; else empty.
        compile_seconds: spent on compiling; 0 where it was found compiled.
    """

    run: Callable[[list[Tensor]], list[Tensor]] | None
    fallback: str = ""
    compile_seconds: float = 0.0


def facts(kernels: Sequence[Kernel], device: str = "cpu") -> dict[str, Any]:
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
def chosen(kernel: Kernel, device: str) -> Choice:
    """Choose, once a process, how a kernel runs.

    ``BSRBENCH_KERNELS`` says ``compiled`` or ``eager``; ``auto`` compiles where it can.

    Raises:
        Unsupported: the setting is none of the three, or compiling was asked for and fails.
    """
    wanted = os.environ.get(SETTING, "auto")
    if wanted not in WAYS:
        raise Unsupported(f"{SETTING}={wanted!r} must be one of {', '.join(WAYS)}")
    if wanted == "eager":
        return Choice(None)
    package = _package(kernel, device)
    seconds = 0.0
    if not package.exists():
        began = time.perf_counter()
        failure = _compile_apart(kernel, device)
        seconds = time.perf_counter() - began
        if failure and wanted == "compiled":
            raise Unsupported(f"{kernel.place} cannot be compiled: {failure}")
        if failure:
            return Choice(None, failure)
    # What torch._inductor.aoti_load_package wraps; that would import the whole compiler.
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)  # noqa: SLF001
    return Choice(loader.boxed_run, compile_seconds=seconds)


def _unpack(made: list[Tensor]) -> Any:
    return made[0] if len(made) == 1 else tuple(made)


def _package(kernel: Kernel, device: str) -> Path:
    """Return where the compiled kernel is kept; another source, torch or processor is another."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # noqa: PLC0415 - slow to load

    parts = [
        *(inspect.getsource(importlib.import_module(kernel.place.partition(":")[0])), kernel.place),
        *(inspect.getsource(sys.modules[__name__]), torch.__version__, device),
        torch.backends.cpu.get_cpu_capability(),
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return Path(cache_dir()) / "bsrbench" / f"{kernel.place.rpartition(':')[2]}-{digest}.pt2"


def _compile_apart(kernel: Kernel, device: str) -> str:
    """Compile in another process, whose memory is not this one's; return why it failed, or ""."""
    command = [sys.executable, "-m", __name__, kernel.place, device]
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": paths},
        )
    except OSError as error:
        return str(error)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


def _compile(place: str, device: str) -> None:
    """Compile the kernel at ``place`` into the cache, whole or not at all."""
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - slow to load

    module, _, name = place.partition(":")
    kernel: Kernel = getattr(importlib.import_module(module), name)
    tensors = tuple(tensor.to(device) for tensor in kernel.example())
    exported = torch.export.export(
        _Module(kernel.function), tensors, dynamic_shapes=(tuple(kernel.shapes().values()),)
    )
    target = _package(kernel, device)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.stem}-{os.getpid()}.pt2")
    aoti_compile_and_package(exported, package_path=str(partial), inductor_configs=INDUCTOR)
    partial.replace(target)


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
