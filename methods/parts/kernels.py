"""Run a method's kernels compiled, or eagerly where no compiled form can be used.

A kernel is a function in torch's operators. Its compiled form is a C++ function on CPUs, built by
g++ in seconds, and what ``torch.compile`` makes of the operators on other devices.
``kernel_builds`` builds the compiled form and checks it in another process before a trial loads it,
so one that crashes, hangs or computes something else never takes a trial down.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts.kernel_builds import Build, build_of, is_built, load_symbol

SETTING = "BSRBENCH_KERNELS"
NAMESPACE = "bsrbench"  # of our operators
WAYS = ("auto", "compiled", "eager")
# Without fused products and sums, so that codes equal those of separate operators.
UNFUSED: dict[str, Any] = {"emulate_precision_casts": True}


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function of fp32 and integer tensors, and how each device runs it.

    Attributes:
        place: ``module:name`` under which this object is found.
        function: computes the results in torch's operators; it is what ``torch.compile`` compiles.
        eager: computes the same results where nothing is compiled, in chunks that stay in the
            processor's cache.
        empty: returns tensors of the results' shapes for the same arguments; computes nothing.
        example: returns arguments with which the compiled form is checked.
        source: name of the C++ file beside the module.
        symbol: name of the C++ function in it. It takes pointers to the arguments (an integer
            argument as it is), to ``constants`` and to the results, then rows and columns of the
            first argument, then the number of threads.
        constants: numbers that the C++ function takes as a further tensor.
    """

    place: str
    function: Callable[..., Any]
    eager: Callable[..., Any]
    empty: Callable[..., Any]
    example: Callable[[], tuple[Any, ...]]
    source: str
    symbol: str
    constants: tuple[float, ...] = ()

    def __call__(self, *arguments: Any) -> Any:
        """Compute the results."""
        run = chosen(self, arguments[0].device.type).run
        return self.eager(*arguments) if run is None else run(*arguments)

    def example_on(self, device: str) -> tuple[Any, ...]:
        """Return the arguments of ``example``, with all tensors on a device."""
        return tuple(a.to(device) if isinstance(a, Tensor) else a for a in self.example())

    def compiled(self, build: Build) -> Callable[..., Any]:
        """Return the compiled form.

        Raises:
            OSError: the built library cannot be loaded.
        """
        if build.library is None:
            return torch.compile(self.function, dynamic=True, fullgraph=True, options=UNFUSED)
        call = load_symbol(build.library, self.symbol)
        constants = [torch.tensor(self.constants)] if self.constants else []

        def run(*arguments: Any) -> Any:
            results = self.empty(*arguments)
            dense = [a.contiguous() if isinstance(a, Tensor) else a for a in arguments]
            made = results if isinstance(results, tuple) else (results,)
            call([*dense, *constants, *made], dense[0].shape)
            return results

        return run


@dataclass(frozen=True)
class KernelChoice:
    """How a kernel runs in this process.

    Attributes:
        run: the compiled form; ``None`` is eager.
        fallback: why it is eager although nobody asked for that; empty otherwise.
        compile_seconds: time for building and checking; on CPUs 0 if an earlier process did both.
    """

    run: Callable[..., Any] | None
    fallback: str = ""
    compile_seconds: float = 0.0


def facts(kernels: Sequence[Kernel], device: str = "cpu") -> dict[str, Any]:
    """Return what a record says about the kernels that a method runs on."""
    choices = [chosen(kernel, device) for kernel in kernels]
    stated: dict[str, Any] = {
        "kernels": "eager" if any(choice.run is None for choice in choices) else "compiled",
        "kernel_compile_seconds": sum(choice.compile_seconds for choice in choices),
    }
    if reason := next((choice.fallback for choice in choices if choice.fallback), ""):
        stated["fallback"] = f"compressing runs eagerly, which is slower: {reason}"
    return stated


def to_compile(kernels: Sequence[Kernel], device: str = "cpu") -> tuple[str, ...]:
    """Return the names of the kernels that this process would have to compile and check first."""
    if os.environ.get(SETTING, "auto") == "eager":
        return ()
    names = (kernel.place.partition(":") for kernel in kernels)
    sources = (kernel.source for kernel in kernels)
    return tuple(
        name
        for (module, _, name), source in zip(names, sources, strict=True)
        if not is_built(module, source, device)
    )


@cache
def chosen(kernel: Kernel, device: str) -> KernelChoice:
    """Choose, once per process, how a kernel runs.

    ``BSRBENCH_KERNELS`` is ``compiled`` or ``eager``; ``auto`` uses a compiled form that passed
    its check and is eager otherwise.

    Raises:
        Unsupported: the setting is none of the three, or is ``compiled`` and no compiled form can
            be used.
    """
    way = os.environ.get(SETTING, "auto")
    if way not in WAYS:
        raise Unsupported(f"{SETTING}={way!r} must be one of {', '.join(WAYS)}")
    if way == "eager":
        return KernelChoice(None)
    module, _, name = kernel.place.partition(":")
    build = build_of(module, kernel.source, device)
    fault = build.fault_of(name)
    if fault and way == "compiled":
        raise Unsupported(f"{kernel.place} cannot run compiled: {fault}")
    if fault:
        return KernelChoice(None, fault, build.take_seconds())
    began = time.perf_counter()
    run = kernel.compiled(build)
    if build.library is not None:
        return KernelChoice(run, compile_seconds=build.take_seconds())
    run(*kernel.example_on(device))  # torch.compile compiles in the first call of each process
    seconds = build.take_seconds() + time.perf_counter() - began
    return KernelChoice(run, compile_seconds=seconds)


def operator(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``run`` as an operator of torch, which meters see and which accepts fake tensors.

    It has no gradient. ``torch.library.custom_op`` does the same with more Python per call.

    Args:
        schema: name, arguments and results, as in torch's own operators.
        run: computes the results.
        fake: returns results of the same shapes without computing them.
    """
    name, _, _ = schema.partition("(")
    place = f"{NAMESPACE}::{name}"
    torch.library.define(place, schema.removeprefix(name))
    torch.library.impl(place, "default", run)
    torch.library.register_fake(place, fake)
    made: Callable[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    return made
