"""The operators that compute attention, seen while a model runs."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from harness.attention_kernel import described


def kernel_of(run: Callable[[], object]) -> str:
    """Return in words which operators computed attention while ``run`` did."""
    with _Operators() as seen:
        run()
    return described(seen.names)


class _Operators(TorchDispatchMode):
    """Keeps the name of every operator that runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.names: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.names.add(str(func._overloadpacket))  # noqa: SLF001 - how torch's own table is keyed
        return func(*args, **(kwargs or {}))
