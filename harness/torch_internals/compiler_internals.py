"""The private parts of torch's compiler that this project uses, under names of its own.

The rules of ``eager_internals`` apply. The compiler takes seconds to import, so each function
imports what it needs when it is called.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

COMPILER_CACHE = "TORCHINDUCTOR_CACHE_DIR"
OURS = "bsrbench"  # our folder in torch's cache


def tracing_errors() -> tuple[type[Exception], type[Exception]]:
    """Return the errors for a graph break and for too many compilations; both are private."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported  # noqa: PLC0415 - seconds

    return Unsupported, FailOnRecompileLimitHit


def compile_seconds() -> float:
    """Return the compilation time of this process; the public function returns a table."""
    from torch._dynamo.utils import get_compilation_metrics  # noqa: PLC0415 - seconds to load

    return sum((metrics.duration_us or 0) for metrics in get_compilation_metrics()) / 1e6


def compile_in_this_process() -> None:
    """Compile without worker processes; the setting is documented, but in a private module."""
    from torch._inductor import config  # noqa: PLC0415 - seconds to load

    config.compile_threads = 1


def compile_by_inductor(graph: Any, inputs: Any) -> Any:
    """Compile a traced graph as ``torch.compile`` does, in a step that can be observed."""
    from torch._inductor.compile_fx import compile_fx  # noqa: PLC0415 - seconds to load

    return compile_fx(graph, inputs)


def why_no_cpp_compiler() -> Exception | None:
    """Return torch's error if it finds no working C++ compiler, without compiling anything."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415 - seconds to load
    from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415 - as above

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        return error
    return None


def compiler_cache() -> Path:
    """Return the folder of torch's compilation cache; its default path is not documented.

    torch has a function for this. This one does not load torch, and does not make the folder.

    Raises:
        OSError: there is no folder for temporary files.
    """
    if path := os.environ.get(COMPILER_CACHE):
        return Path(path).absolute()
    user = re.sub(r'[\\/:*?"<>|]', "_", _user())
    return Path(tempfile.gettempdir()).absolute() / f"torchinductor_{user}"


def kernel_folder() -> Path:
    """Return the folder of our compiled kernels and of the results of their checks.

    Raises:
        OSError: as ``compiler_cache``.
    """
    return compiler_cache() / OURS


def _user() -> str:
    import getpass  # noqa: PLC0415 - importing it reads the list of users

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # this user has a number, but no name
        return f"uid_{os.getuid()}"
