"""Build the compiled forms of kernels, check them in another process, and remember the result.

The cache is a folder beside torch's own compiled code. It holds C++ libraries (``.so``) and, for
each module with kernels, the result of the check (``.json``) with the library's hash. A file that
was changed or cut off is built again. ``bsrbench cache`` shows the files and removes them, also
while another process uses them.
"""

import ctypes
import errno
import hashlib
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.compiler_internals import kernel_folder
from bsrbench.methods.parts.kernel_target import target_of

CHECK = "bsrbench.methods.parts.kernel_check"
# -ffp-contract=off: a fused product and sum would round differently than torch's operators.
COMPILE = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
SOURCES = Path(__file__).parent
PART = ".part"  # suffix of what is being written
KERNEL_SECONDS = 120.0  # limit for the check of a kernel; torch.compile takes some 7 s on a GPU
CHECK_SECONDS = 600.0  # limit for the checks of a module, with the start of their process


@dataclass
class Build:
    """The compiled forms of one module's kernels on one kind of device.

    Attributes:
        library: the C++ library; ``None`` on devices for which ``torch.compile`` is used.
        faults: why kernels cannot be used, by name; the name ``""`` stands for all of them.
        seconds: time that this process spent on building and checking.
    """

    library: Path | None = None
    faults: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def fault_of(self, name: str) -> str:
        """Return why a kernel cannot be used; empty if it can."""
        if general := self.faults.get(""):
            return general
        fault = self.faults.get(name, "its module does not have it")
        return fault and f"kernel {name}: {fault}"

    def take_seconds(self) -> float:
        """Return the time spent, once: the first kernel of a module reports it."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@cache
def build_of(module: str, source: str, device: str) -> Build:
    """Return what was built and checked for a module's kernels; build and check it if needed.

    Args:
        module: the module's name.
        source: C++ file beside it, for CPUs.
        device: type of the device.
    """
    began = time.perf_counter()
    try:
        try:
            return _stored_or_new(module, source, device)
        except FileNotFoundError:  # the cache was emptied at the same time
            return _stored_or_new(module, source, device)
    except (OSError, BuildError) as error:
        return Build(None, {"": str(error)}, time.perf_counter() - began)


def is_built(module: str, source: str, device: str) -> bool:
    """Return whether ``build_of`` would find its result in the cache; builds nothing.

    Args:
        module: the module's name.
        source: C++ file beside it, for CPUs.
        device: type of the device.
    """
    try:
        library = _library_file(source) if device == "cpu" else None
        return _stored(_result_file(module, source, device), library) is not None
    except OSError:
        return False


class BuildError(Exception):
    """A library cannot be built; the message says why."""


def _stored_or_new(module: str, source: str, device: str) -> Build:
    """Return what the cache has; build and check what it lacks.

    Raises:
        BuildError: a library cannot be built.
        FileNotFoundError: another process removed a file of the cache.
        OSError: the cache cannot be used.
    """
    began = time.perf_counter()
    kernel_folder().mkdir(parents=True, exist_ok=True)
    result, library = _result_file(module, source, device), None
    if device == "cpu":
        library = _built_library(source)
    faults = _stored(result, library)
    if faults is not None:
        _load_checked(library, faults)
        return Build(library, faults)
    if library is not None and result.exists():  # one of the two is damaged
        library.unlink(missing_ok=True)
        library = _built_library(source)
    faults = _checked(module, device, library)
    verdict = {"library": _hash(library), "faults": faults} | asdict(target_of(device))
    _write(result, json.dumps(verdict))
    _load_checked(library, faults)
    return Build(library, faults, time.perf_counter() - began)


def _load_checked(library: Path | None, faults: dict[str, str]) -> None:
    """Load a library with a usable kernel now, so that it can be used after its file is removed.

    Raises:
        FileNotFoundError: its file was removed.
        OSError: it cannot be loaded.
    """
    if library is None or all(faults.values()):
        return
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        if library.exists():
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(library)) from error


def load_symbol(library: Path, symbol: str) -> Callable[[Sequence[Any], Sequence[int]], None]:
    """Return a caller of a C++ function: it takes tensors or integers, and rows and columns.

    Raises:
        OSError: the library cannot be loaded.
        AttributeError: it has no such function.
    """
    function = getattr(ctypes.CDLL(str(library)), symbol)
    function.restype = None

    def call(arguments: Sequence[Any], shape: Sequence[int]) -> None:
        values = [
            ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else ctypes.c_int64(a)
            for a in arguments
        ]
        sizes = (ctypes.c_int64(size) for size in shape)
        function(*values, *sizes, ctypes.c_int(torch.get_num_threads()))

    return call


def sources_of(module: str) -> list[str]:
    """Return the source of a module and of the modules of this folder that it imports from."""
    values = vars(importlib.import_module(module)).values()
    used = {getattr(value, "__module__", None) for value in values}
    ours = {name for name in used if name and name.startswith(f"{__package__}.")}
    return [inspect.getsource(sys.modules[name]) for name in sorted({module, __name__} | ours)]


def _digest(module: str, source: str, device: str) -> str:
    """Return a hash of all that decides what is compiled, and for what."""
    native = (SOURCES / source).read_text(encoding="utf-8")
    parts = [*sources_of(module), native, *COMPILE, *asdict(target_of(device)).values()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _hash(library: Path | None) -> str:
    return "" if library is None else hashlib.sha256(library.read_bytes()).hexdigest()


def _result_file(module: str, source: str, device: str) -> Path:
    """Return the file with the result of the check of a module's kernels."""
    return kernel_folder() / f"{module.rpartition('.')[2]}-{_digest(module, source, device)}.json"


def _library_file(name: str) -> Path:
    """Return the file in which the library of a C++ file is cached."""
    source = SOURCES / name
    target = target_of("cpu")
    made_for = (target.processor, target.capability, target.instructions)
    parts = [source.read_text(encoding="utf-8"), *COMPILE, *made_for]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return kernel_folder() / f"{source.stem}-{digest}.so"


def _built_library(name: str) -> Path:
    """Return the library of a C++ file; build it if it is not in the cache.

    Raises:
        BuildError: there is no compiler, or it fails.
        OSError: the cache cannot be written.
    """
    library, source = _library_file(name), SOURCES / name
    if library.exists():
        return library
    compiler = os.environ.get("CXX", "g++")
    with _partial_folder(library) as partial:
        target = Path(partial) / library.name
        try:
            done = subprocess.run(
                [compiler, *COMPILE, "-o", str(target), str(source)],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise BuildError(f"no C++ compiler: {compiler} was not found; set CXX") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise BuildError(f"{compiler} failed on {source.name}: {lines[-1]}")
        target.replace(library)
    return library


def _partial_folder(target: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder beside a file, with the name by which ``bsrbench cache`` knows it."""
    return tempfile.TemporaryDirectory(PART, f".{target.name}.", target.parent)


def _stored(result: Path, library: Path | None) -> dict[str, str] | None:
    """Return the faults that an earlier check found; ``None`` if it must be done again."""
    try:
        stored = json.loads(result.read_text(encoding="utf-8"))
        faults = {str(name): str(fault) for name, fault in stored["faults"].items()}
        return faults if stored["library"] == _hash(library) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checked(module: str, device: str, library: Path | None) -> dict[str, str]:
    """Run the check in another process; return the fault of each kernel, empty if there is none."""
    root = Path(__file__).absolute().parents[3]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", CHECK, module, device, str(library or ""), str(KERNEL_SECONDS)]
    ended = "its check did not reach it"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=CHECK_SECONDS,
            env=os.environ | {"PYTHONPATH": paths},
        )
        printed = done.stdout
        if done.returncode:
            ended = _ending(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        printed = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
        ended = f"its check did not end within {CHECK_SECONDS:g} s"
    first, *results = printed.splitlines() or [""]
    faults = dict(line.partition("\t")[::2] for line in results)
    names = first.split() or [""]  # without names, the fault is that of all kernels
    return {name: faults.get(name, ended) for name in names}


def _ending(code: int, printed: str) -> str:
    if code == -signal.SIGALRM:
        return f"its check did not end within {KERNEL_SECONDS:g} s"
    if code < 0:
        return f"its check was ended by {signal.Signals(-code).name}"
    lines = printed.strip().splitlines() or [f"exit code {code}"]
    return f"its check failed: {lines[-1]}"


def _write(target: Path, text: str) -> None:
    with _partial_folder(target) as partial:
        written = Path(partial) / target.name
        written.write_text(text, encoding="utf-8")
        written.replace(target)
