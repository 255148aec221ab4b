"""The compiled forward pass of a trial, never eager in silence, and what compiling it took."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, hub, nn
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.exc import Unsupported as GraphBreak
from torch._dynamo.utils import get_compilation_metrics

from bsrbench.harness.devices.cpu_events import cpu_profile
from bsrbench.harness.method import Method, Unsupported

COMPILED_REGION = "Torch-Compiled Region"  # begins the event that torch puts around compiled code
LINES_OF_A_REASON = 2  # what torch could not do, and its explanation; hints and traces follow


def require_compiles(method: Method) -> None:
    """Check that a method says it compiles.

    Raises:
        Unsupported: it does not.
    """
    if not method.compiles:
        raise Unsupported(
            "the method does not declare that torch.compile of its step is tested (compiles); "
            "leave compiled_step out"
        )


class CompiledForward:
    """Calls a model compiled by inductor in one graph; its backward pass is compiled with it.

    Shapes are static: each new one, and evaluation mode, compiles anew. A graph break and the
    recompilation limit are errors of torch's, as one graph was asked for.

    Args:
        model: the prepared model; it stays as it is, and so do its parameters' names.

    Raises:
        Unsupported: there is no compiler for the CPU's code.
    """

    def __init__(self, model: nn.Module) -> None:
        _require_compiler(model)
        # A progress bar's lock between processes would outlive a pass that is killed when done.
        set_lock = getattr(getattr(hub, "tqdm", None), "set_lock", None)
        if set_lock is not None:  # torch has a stand-in without locks
            set_lock(threading.RLock())
        # Workers would go on loading beside the steps that are timed.
        torch._inductor.config.compile_threads = 1  # noqa: SLF001 - torch's documented setting
        self._graphs = 0
        self._before = _compile_seconds()
        self._call: Callable[[Tensor], Tensor] = torch.compile(
            model, backend=self._inductor, fullgraph=True, dynamic=False
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Return the model's output.

        Raises:
            Unsupported: torch ran it without compiling anything.
        """
        output = self._call(images)
        if not self._graphs:
            raise Unsupported(
                "torch.compile compiled nothing and ran the step eagerly; is it switched off "
                "(TORCH_COMPILE_DISABLE, TORCHDYNAMO_DISABLE)?"
            )
        return output

    def seconds(self) -> float:
        """Return the time torch spent compiling, by its own clock, since this was made."""
        return _compile_seconds() - self._before

    def _inductor(self, graph: Any, inputs: Any) -> Any:
        from torch._inductor.compile_fx import compile_fx  # noqa: PLC0415 - seconds to load

        self._graphs += 1
        return compile_fx(graph, inputs)


def _require_compiler(model: nn.Module) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415 - as above
    from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415 - as above

    if next(model.parameters()).device.type != "cpu":
        return
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise Unsupported(
            "torch.compile found no working C++ compiler: install g++ or clang++, name one in the "
            "environment variable CXX, or leave compiled_step out"
        ) from error


def _compile_seconds() -> float:
    return sum((found.duration_us or 0) for found in get_compilation_metrics()) / 1e6


def runs_compiled(action: Callable[[], object]) -> bool:
    """Run ``action`` and tell whether any of it is code that ``torch.compile`` made.

    Within somebody else's profile that cannot be told, and is taken for no.
    """
    if torch._C._autograd._profiler_enabled():  # noqa: SLF001 - torch's own check
        action()
        return False
    with cpu_profile() as profiler:
        action()
    return any(event.name.startswith(COMPILED_REGION) for event in profiler.events() or ())


def why_not_compiled(error: Exception) -> str | None:
    """Return why torch did not compile a step whole, if that is what an error says."""
    if not isinstance(error, GraphBreak | FailOnRecompileLimitHit):
        return None
    limit = isinstance(error, FailOnRecompileLimitHit)  # whose cause says which
    said = str(error.__cause__ if limit and error.__cause__ else error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"torch.compile cannot take the step whole: {' '.join(lines[:LINES_OF_A_REASON])}"
