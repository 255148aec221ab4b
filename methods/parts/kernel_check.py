"""Check the compiled kernels of a module in a process of its own, and print what is wrong.

``python -m bsrbench.methods.parts.kernel_check MODULE DEVICE LIBRARY SECONDS``. The first line has
the names of the kernels; each further line has a name, a tab, and the fault (empty if there is
none). If the check of a kernel takes more than SECONDS, SIGALRM ends the process.
"""

import importlib
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsrbench.methods.parts.kernel_builds import Build
from bsrbench.methods.parts.kernels import Kernel

ROUNDINGS = 4  # units in the last place of the largest number by which results may differ


def fault_of(kernel: Kernel, build: Build, device: str) -> str:
    """Return why the compiled form of a kernel cannot be used; empty if it can."""
    arguments = kernel.example_on(device)
    try:
        results = kernel.compiled(build)(*arguments)
    except Exception as error:  # noqa: BLE001 - a compiler raises anything
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"
    expected = kernel.eager(*arguments)
    pairs = zip(_tuple(results), _tuple(expected), strict=True)
    differing = sum(not _equal(result, reference) for result, reference in pairs)
    return f"{differing} of its results differ from those of torch's operators" if differing else ""


def _equal(result: Tensor, reference: Tensor) -> bool:
    """Return whether a result is right: integers exactly, others but for their last digits."""
    if result.shape != reference.shape or result.dtype != reference.dtype:
        return False
    if not result.is_floating_point():
        return torch.equal(result, reference)
    finite = reference[reference.isfinite()].abs()
    largest = finite.max().item() if finite.numel() else 0.0
    tolerance = ROUNDINGS * torch.finfo(result.dtype).eps * largest
    return torch.allclose(result, reference, rtol=0, atol=tolerance, equal_nan=True)


def _tuple(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def main(module: str, device: str, library: str, seconds: str) -> None:
    """Check every kernel of a module."""
    build = Build(Path(library) if library else None)
    found = vars(importlib.import_module(module)).items()
    kernels = {name: value for name, value in found if isinstance(value, Kernel)}
    own = {name: kernel for name, kernel in kernels.items() if kernel.place == f"{module}:{name}"}
    _tell(" ".join(own))
    for name, kernel in own.items():
        signal.setitimer(signal.ITIMER_REAL, float(seconds))  # also ends a hanging C++ function
        _tell(f"{name}\t{fault_of(kernel, build, device)}")


def _tell(line: str) -> None:
    """Print a line at once: the next kernel may end this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
