"""The compiled forward pass of a trial (never silently eager), and its compilation time."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, hub, nn

from bsrbench.harness.devices.cpu_events import cpu_profile
from bsrbench.harness.method import Method, Unsupported
from bsrbench.harness.torch_internals.compiler_internals import (
    compile_by_inductor,
    compile_in_this_process,
    compile_seconds,
    tracing_errors,
    why_no_cpp_compiler,
)
from bsrbench.harness.torch_internals.eager_internals import is_profiled

COMPILED_REGION = "Torch-Compiled Region"  # begins the event that torch puts around compiled code
LINES_OF_A_REASON = 2  # what torch could not do, and its explanation; hints and traces follow
GraphBreak, FailOnRecompileLimitHit = tracing_errors()


def require_compiles(method: Method) -> None:
    """Check that a method declares that it compiles.

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
        compile_in_this_process()
        self._graphs = 0
        self._before = compile_seconds()
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
        return compile_seconds() - self._before

    def _inductor(self, graph: Any, inputs: Any) -> Any:
        self._graphs += 1
        return compile_by_inductor(graph, inputs)


def _require_compiler(model: nn.Module) -> None:
    if next(model.parameters()).device.type != "cpu":
        return
    if error := why_no_cpp_compiler():
        raise Unsupported(
            "torch.compile found no working C++ compiler: install g++ or clang++, name one in the "
            "environment variable CXX, or leave compiled_step out"
        ) from error


def runs_compiled(action: Callable[[], object]) -> bool:
    """Run ``action`` and tell whether any of it is code that ``torch.compile`` made.

    Within somebody else's profile that cannot be told, and is taken for no.
    """
    if is_profiled():
        action()
        return False
    with cpu_profile() as profiler:
        action()
    return any(event.name.startswith(COMPILED_REGION) for event in profiler.events() or ())


def why_not_compiled(error: Exception) -> str | None:
    """Return why torch did not compile a step whole, if that is what an error says."""
    if not isinstance(error, (GraphBreak, FailOnRecompileLimitHit)):
        return None
    limit = isinstance(error, FailOnRecompileLimitHit)  # whose cause says which
    said = str(error.__cause__ if limit and error.__cause__ else error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"torch.compile cannot take the step whole: {' '.join(lines[:LINES_OF_A_REASON])}"
