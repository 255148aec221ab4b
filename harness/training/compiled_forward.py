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

COMPILED_REGION = "Torch-Compiled Region"  # prefix of torch's profiler event of compiled code
LINES_OF_A_REASON = 2  # what torch could not do, and its explanation; hints and traces follow
GraphBreak, FailOnRecompileLimitHit = tracing_errors()


def require_compiles(method: Method) -> None:
    """Check that a method declares that it compiles.

    Raises:
        Unsupported: it does not.
    """
    if not method.compiles:
        raise Unsupported(
            "the method does not declare 'compiles', so torch.compile of its step is not tested: "
            "leave compiled_step out"
        )


class CompiledForward:
    """Calls a model compiled by inductor in one graph; its backward pass is compiled with it.

    Shapes are static: each new shape, and evaluation mode, is compiled separately. torch is asked
    for one graph, so it raises an error at a graph break and at the recompilation limit.

    Args:
        model: the prepared model; neither the model nor the names of its parameters change.

    Raises:
        Unsupported: the model is on a CPU, and there is no C++ compiler.
    """

    def __init__(self, model: nn.Module) -> None:
        _require_compiler(model)
        # A finished pass is killed. A lock of tqdm that processes share would then be left over.
        set_lock = getattr(getattr(hub, "tqdm", None), "set_lock", None)
        if set_lock is not None:  # torch's replacement of tqdm has no locks
            set_lock(threading.RLock())
        # Compiler processes would still be loading while steps are timed.
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
        """Return the seconds that torch has spent on compiling since this object was made."""
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
    """Run ``action`` and return whether it runs any code that ``torch.compile`` has made.

    This cannot be measured while another profiler runs; the result is then False.
    """
    if is_profiled():
        action()
        return False
    with cpu_profile() as profiler:
        action()
    return any(event.name.startswith(COMPILED_REGION) for event in profiler.events() or ())


def why_not_compiled(error: Exception) -> str | None:
    """Return why torch cannot compile a step as one graph; ``None`` for any other error."""
    if not isinstance(error, (GraphBreak, FailOnRecompileLimitHit)):
        return None
    limit = isinstance(error, FailOnRecompileLimitHit)  # its cause has the details
    message = str(error.__cause__ if limit and error.__cause__ else error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return (
        f"torch.compile cannot compile the step as one graph: {' '.join(lines[:LINES_OF_A_REASON])}"
    )
