"""The unpublished parts of torch's compiler that this project relies on, under names of ours.

As in ``torch_internals``; here everything that takes seconds to load is loaded when it is called.
"""

from pathlib import Path
from typing import Any


def tracing_errors() -> tuple[type[Exception], type[Exception]]:
    """Return the errors of a graph that breaks and of too many compilations, unpublished both."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported  # noqa: PLC0415 - seconds

    return Unsupported, FailOnRecompileLimitHit


def compile_seconds() -> float:
    """Return the time torch has spent compiling in this process; its public form is a table."""
    from torch._dynamo.utils import get_compilation_metrics  # noqa: PLC0415 - seconds to load

    return sum((found.duration_us or 0) for found in get_compilation_metrics()) / 1e6


def compile_in_this_process() -> None:
    """Start no workers to compile; documented, but its only place is a private module."""
    from torch._inductor import config  # noqa: PLC0415 - seconds to load

    config.compile_threads = 1


def compile_by_inductor(graph: Any, inputs: Any) -> Any:
    """Compile a traced graph, as ``torch.compile`` does, which cannot be watched at it."""
    from torch._inductor.compile_fx import compile_fx  # noqa: PLC0415 - seconds to load

    return compile_fx(graph, inputs)


def why_no_cpp_compiler() -> Exception | None:
    """Return torch's error where it finds no working C++ compiler; public ways begin to compile."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415 - seconds to load
    from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415 - as above

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        return error
    return None


def compiler_cache() -> Path:
    """Return the folder that keeps what was compiled; where it is by default is not published."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # noqa: PLC0415 - slow to load

    return Path(cache_dir())
